target_sources(peregrine_ops PRIVATE
  ${CMAKE_CURRENT_SOURCE_DIR}/reference/address_space.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/reference/attention_operations.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/reference/cache_view.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/reference/dense_operations.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/reference/expert_operations.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/reference/quantize.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/reference/reference_device.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/reference/reference_stream.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/reference/storage.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/reference/views.cc)
