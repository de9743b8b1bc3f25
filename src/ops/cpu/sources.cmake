# The fast CPU device. Each file of kernels/ compiles the same source for one instruction set.
set(cpu_dir ${CMAKE_CURRENT_SOURCE_DIR}/cpu)
set(cpu_kernels
  ${cpu_dir}/kernels/plain.cc
  ${cpu_dir}/kernels/avx2.cc
  ${cpu_dir}/kernels/avx512.cc
  ${cpu_dir}/kernels/avx512_vnni.cc
  ${cpu_dir}/kernels/avx512_bf16.cc)
target_sources(peregrine_ops PRIVATE
  ${cpu_dir}/attention_operations.cc
  ${cpu_dir}/compute.cc
  ${cpu_dir}/cpu_device.cc
  ${cpu_dir}/cpu_stream.cc
  ${cpu_dir}/expert_operations.cc
  ${cpu_dir}/isa.cc
  ${cpu_dir}/kv_cache.cc
  ${cpu_dir}/limits.cc
  ${cpu_dir}/linear_operation.cc
  ${cpu_dir}/memory.cc
  ${cpu_dir}/rotary_operations.cc
  ${cpu_dir}/row_operations.cc
  ${cpu_dir}/weight.cc
  ${cpu_kernels})

# Loading quantizes every element of a model in its loops.
set_source_files_properties(${cpu_dir}/weight.cc PROPERTIES COMPILE_OPTIONS -O3)

# -O3 in every build type: unoptimised, each intrinsic is a call. No exceptions, whose handlers would bring weak
# symbols along. The two warnings come from GCC 12's own AVX-512 headers (__Y = __Y).
set(cpu_kernel_options -O3 -fno-exceptions -fno-math-errno -Wno-uninitialized -Wno-maybe-uninitialized)
set(cpu_plain)
if(PEREGRINE_SANITIZE)
  # Every access of the unrolled tiles carries its checks: with all of them one file takes minutes to compile.
  # All files come from one source, so the plain one alone has address (or thread) checks; of the undefined
  # behaviour, all check what is not about pointers.
  list(APPEND cpu_kernel_options -fno-sanitize=alignment,null,object-size,pointer-overflow)
  set(cpu_plain -O1)
  set(cpu_unwatched -fno-sanitize=address,thread)
endif()
set(cpu_avx2 ${cpu_unwatched} -mavx2 -mfma -mf16c)
set(cpu_avx512 ${cpu_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512)
set_source_files_properties(${cpu_dir}/kernels/plain.cc PROPERTIES
  COMPILE_OPTIONS "${cpu_kernel_options};${cpu_plain}")
set_source_files_properties(${cpu_dir}/kernels/avx2.cc PROPERTIES
  COMPILE_OPTIONS "${cpu_kernel_options};${cpu_avx2}")
set_source_files_properties(${cpu_dir}/kernels/avx512.cc PROPERTIES
  COMPILE_OPTIONS "${cpu_kernel_options};${cpu_avx512}")
set_source_files_properties(${cpu_dir}/kernels/avx512_vnni.cc PROPERTIES
  COMPILE_OPTIONS "${cpu_kernel_options};${cpu_avx512};-mavx512vnni")
set_source_files_properties(${cpu_dir}/kernels/avx512_bf16.cc PROPERTIES
  COMPILE_OPTIONS "${cpu_kernel_options};${cpu_avx512};-mavx512vnni;-mavx512bf16")
