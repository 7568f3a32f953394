# Finds a CUDA toolkit that can compile this project and enables the language: SWITCHYARD_CUDA_FOUND,
# and SWITCHYARD_CUDA_WHY_NOT where it is not.

option(SWITCHYARD_CUDA "Look for the CUDA toolkit" ON)
set(SWITCHYARD_CUDA_FOUND OFF)
set(SWITCHYARD_CUDA_WHY_NOT "")
set(oldest_cuda 12.0)  # the first with C++20 and sm_90a

if(NOT SWITCHYARD_CUDA)
  set(SWITCHYARD_CUDA_WHY_NOT "SWITCHYARD_CUDA is OFF")
  return()
endif()
find_program(SWITCHYARD_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_PATH ENV CUDA_HOME /usr/local/cuda
             PATH_SUFFIXES bin)
mark_as_advanced(SWITCHYARD_NVCC)
if(NOT SWITCHYARD_NVCC)
  set(SWITCHYARD_CUDA_WHY_NOT "no nvcc was found")
  return()
endif()

if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER ${SWITCHYARD_NVCC})
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
endif()
# A100, and H100 and H200 with the instructions that only they have.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "80;90a" CACHE STRING "CUDA architectures to compile for")
endif()

# A failing enable_language would end the configuration, so nvcc proves itself first.
set(trial ${PROJECT_BINARY_DIR}/CMakeFiles/cuda_trial.cu)
file(WRITE ${trial} "#include <string>\n__global__ void kernel() {}\nint main() { return 0; }\n")
execute_process(COMMAND ${CMAKE_CUDA_COMPILER} -std=c++20 -arch=sm_90a -ccbin ${CMAKE_CXX_COMPILER}
                        -c ${trial} -o ${trial}.o
                RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
if(failed)
  string(REGEX MATCH "[^\n]*(error|unsupported|fatal)[^\n]*" reason "${said}")
  string(REPLACE "|" " " reason "${reason}")
  string(REPLACE ";" "," reason "${reason}")
  string(REPLACE "\"" "'" reason "${reason}")
  set(SWITCHYARD_CUDA_WHY_NOT
      "${CMAKE_CUDA_COMPILER} does not compile C++20 for sm_90a with ${CMAKE_CXX_COMPILER}: ${reason}")
  return()
endif()

enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 knows C++20 of other compilers only
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
find_package(CUDAToolkit QUIET)
if(NOT CUDAToolkit_FOUND)
  set(SWITCHYARD_CUDA_WHY_NOT "nvcc was found without the libraries of its toolkit")
elseif(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS oldest_cuda)
  set(SWITCHYARD_CUDA_WHY_NOT
      "CUDA ${CMAKE_CUDA_COMPILER_VERSION} is older than ${oldest_cuda}")
elseif(NOT TARGET CUDA::cublasLt)
  set(SWITCHYARD_CUDA_WHY_NOT "cublasLt was not found beside nvcc")
else()
  set(SWITCHYARD_CUDA_FOUND ON)
endif()
