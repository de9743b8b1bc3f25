# Compiler settings, and the two functions that every room and test is declared with.

option(PEREGRINE_TESTS "Build the tests" ON)
option(PEREGRINE_BENCH "Build the micro benchmarks" OFF)
option(PEREGRINE_FUZZ "Build the libFuzzer targets (needs Clang)" OFF)
set(PEREGRINE_SANITIZE "" CACHE STRING "Sanitizers for every target: address,undefined or thread")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# Line tables cost nothing at run time and make a crash report readable.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

# -ffp-contract=off: a fused multiply-add happens where the source says so and nowhere else, or the same
# sum would round differently in a vector body and in its tail.
add_compile_options(-Wall -Wextra -ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-Werror)
endif()
if(PEREGRINE_SANITIZE)
  add_compile_options(-fsanitize=${PEREGRINE_SANITIZE} -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${PEREGRINE_SANITIZE})
  if(PEREGRINE_SANITIZE MATCHES undefined)
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Instrumented library headers trip these two analyses without cause.
    add_compile_options(-Wno-error=maybe-uninitialized -Wno-error=tsan)
  endif()
endif()
if(PEREGRINE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

set_property(GLOBAL PROPERTY PEREGRINE_DOORS "")

# peregrine_room(NAME SOURCES ... DOORS room ... LIBRARIES target ...)
# A room is the static library peregrine_NAME. DOORS are the rooms it may include headers of; they are
# also written to doors.txt, which the walls test reads.
function(peregrine_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DOORS;LIBRARIES" ${ARGN})
  add_library(peregrine_${name} STATIC ${ROOM_SOURCES})
  target_include_directories(peregrine_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  foreach(door ${ROOM_DOORS})
    target_link_libraries(peregrine_${name} PUBLIC peregrine_${door})
  endforeach()
  target_link_libraries(peregrine_${name} PUBLIC ${ROOM_LIBRARIES})
  string(REPLACE ";" " " doors "${ROOM_DOORS}")
  set_property(GLOBAL APPEND PROPERTY PEREGRINE_DOORS "${name}: ${doors}")
endfunction()

function(peregrine_write_doors)
  get_property(doors GLOBAL PROPERTY PEREGRINE_DOORS)
  string(REPLACE ";" "\n" text "${doors}")
  file(WRITE ${PROJECT_BINARY_DIR}/doors.txt "${text}\n")
endfunction()

# peregrine_test(NAME SOURCES ... ROOMS room ... [LIBRARIES target ...] [TIMEOUT seconds])
# A GoogleTest binary, one ctest entry for the whole binary.
function(peregrine_test name)
  cmake_parse_arguments(TEST "" "TIMEOUT" "SOURCES;ROOMS;LIBRARIES" ${ARGN})
  add_executable(${name} ${TEST_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  foreach(room ${TEST_ROOMS})
    target_link_libraries(${name} PRIVATE peregrine_${room})
  endforeach()
  target_link_libraries(${name} PRIVATE ${TEST_LIBRARIES} peregrine_test_support GTest::gmock GTest::gtest_main)
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 300)
  endif()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${TEST_TIMEOUT})
endfunction()
