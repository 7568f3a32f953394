# How the folders of src/ declare what they are made of.

add_library(switchyard_options INTERFACE)
target_compile_options(switchyard_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra
                       $<$<CXX_COMPILER_ID:GNU>:-Wshadow=local>
                       -Wnon-virtual-dtor -fno-math-errno -ffp-contract=off>)
# No contraction either: kernels then give the bits that the emulator and the CPU give.
target_compile_options(switchyard_options INTERFACE
                       "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra;-fmad=false;--expt-relaxed-constexpr>")
if(SWITCHYARD_WERROR)
  target_compile_options(switchyard_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>
      "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Werror>")
endif()
if(SWITCHYARD_SANITIZE)
  add_compile_options(-fsanitize=${SWITCHYARD_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SWITCHYARD_SANITIZE})
endif()

set(SWITCHYARD_X86_KERNELS OFF)
if(NOT SWITCHYARD_PORTABLE AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(SWITCHYARD_X86_KERNELS ON)
endif()

# Flags of each ISA; a file names its ISA by its suffix: x_x86_avx2.cc.
# (GCC 12 sees uninitialised values in its own AVX-512 headers.)
set(quiet $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized>
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
set(SWITCHYARD_FLAGS_avx2 ${quiet} -mavx2 -mfma -mf16c)
set(SWITCHYARD_FLAGS_avx512 ${SWITCHYARD_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl
    -mprefer-vector-width=512)
set(SWITCHYARD_FLAGS_avx512_bf16 ${SWITCHYARD_FLAGS_avx512} -mavx512bf16
    -mavx512vnni)
set(SWITCHYARD_FLAGS_amx_bf16 ${SWITCHYARD_FLAGS_avx512_bf16} -mamx-tile -mamx-bf16
    -mamx-int8)

# switchyard_sources(a.cc b_x86_avx2.cc ...): adds files of the current folder to the library.
# Files with an ISA suffix get that ISA's flags, and are left out of portable builds.
function(switchyard_sources)
  foreach(file ${ARGN})
    if(file MATCHES "_x86_(.+)\\.cc$")
      if(NOT SWITCHYARD_X86_KERNELS)
        continue()
      endif()
      set_source_files_properties(${file} TARGET_DIRECTORY switchyard
                                  PROPERTIES COMPILE_OPTIONS "${SWITCHYARD_FLAGS_${CMAKE_MATCH_1}}")
    endif()
    target_sources(switchyard PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  endforeach()
endfunction()

# switchyard_test(name files... [LIBS targets...]): one GoogleTest program of the files given.
function(switchyard_test name)
  if(NOT SWITCHYARD_TESTS)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "" "LIBS")
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE switchyard switchyard_internal ${ARG_LIBS} GTest::gtest_main
                        rapidcheck)
  target_compile_definitions(${name} PRIVATE
                             SWITCHYARD_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 900)
endfunction()

# switchyard_cuda_sources(x_cuda.cu ...): adds device code of the current folder to the library. Where
# CUDA is absent the same files are compiled as C++, their kernels for the emulator.
function(switchyard_cuda_sources)
  foreach(file ${ARGN})
    if(SWITCHYARD_HAS_CUDA)
      # Through objects, so that users of the library need not enable the language.
      target_sources(switchyard_cuda_objects PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    else()
      set_source_files_properties(${file} TARGET_DIRECTORY switchyard PROPERTIES LANGUAGE CXX)
      target_sources(switchyard PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    endif()
  endforeach()
endfunction()

# switchyard_device_test(name files... [LIBS targets...]): a test program that runs kernels, on a
# GPU or in the emulator, whose fibers the thread sanitizer cannot follow.
function(switchyard_device_test name)
  if(NOT SWITCHYARD_SANITIZE MATCHES thread)
    switchyard_test(${name} ${ARGN})
  endif()
endfunction()
