# Libraries: the required ones, and the optional parts with the Debian package that brings each.

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_path(RANDOM123_INCLUDE_DIR Random123/philox.h REQUIRED)
if(SWITCHYARD_TESTS)
  find_package(GTest REQUIRED)
  find_package(rapidcheck REQUIRED)
endif()

set(SWITCHYARD_PARTS "")  # name|found|what it gives|Debian package
function(switchyard_part name found gives package)
  set(SWITCHYARD_PARTS "${SWITCHYARD_PARTS};${name}|${found}|${gives}|${package}" PARENT_SCOPE)
  set(SWITCHYARD_HAS_${name} ${found} PARENT_SCOPE)
endfunction()

set(found OFF)
find_package(OpenMP COMPONENTS CXX QUIET)
find_package(DNNL MODULE QUIET)
if(DNNL_FOUND AND OpenMP_CXX_FOUND)
  set(found ON)
endif()
switchyard_part(ONEDNN ${found} "experts implementations loop and padded, f32 and bf16" libdnnl-dev)

set(found OFF)
find_path(OPENBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas x86_64-linux-gnu aarch64-linux-gnu)
find_library(OPENBLAS_LIBRARY openblas)
if(OPENBLAS_INCLUDE_DIR AND OPENBLAS_LIBRARY)
  set(found ON)
endif()
switchyard_part(OPENBLAS ${found} "experts implementation loop, f32, where oneDNN is absent"
                libopenblas-dev)

include(cmake/Cuda.cmake)
if(SWITCHYARD_CUDA AND SWITCHYARD_CUDA_WHY_NOT)
  message(STATUS "no CUDA: ${SWITCHYARD_CUDA_WHY_NOT}")
endif()
switchyard_part(CUDA ${SWITCHYARD_CUDA_FOUND} "--device cuda, for sm_80 and sm_90a"
                nvidia-cuda-toolkit)

set(found OFF)
find_package(MPI COMPONENTS CXX QUIET)
if(MPI_CXX_FOUND)
  set(found ON)
endif()
switchyard_part(MPI ${found} "nothing in this version runs on several ranks" libopenmpi-dev)

set(found OFF)
find_path(ONNX_INCLUDE_DIR onnx/onnx_pb.h)
if(ONNX_INCLUDE_DIR)
  set(found ON)
endif()
switchyard_part(ONNX ${found} "nothing in this version exports models" libonnx-dev)

# Looked for so that a build can say it is absent; the program is found again when it is needed.
set(found OFF)
find_program(GNUPLOT gnuplot)
if(GNUPLOT)
  set(found ON)
endif()
switchyard_part(GNUPLOT ${found} "plot, and the pictures of report" gnuplot-nox)

# Parts that must be there, as the presets cuda and mpi ask: a build without them stops here.
set(SWITCHYARD_REQUIRE "" CACHE STRING "Optional parts to insist on, e.g. ONEDNN;MPI")
foreach(name ${SWITCHYARD_REQUIRE})
  if(NOT DEFINED SWITCHYARD_HAS_${name})
    message(FATAL_ERROR "SWITCHYARD_REQUIRE names ${name}: expected one of ONEDNN, OPENBLAS, CUDA, "
                        "MPI, ONNX, GNUPLOT")
  elseif(NOT SWITCHYARD_HAS_${name})
    message(FATAL_ERROR "SWITCHYARD_REQUIRE names ${name}, which was not found; the list of parts "
                        "in cmake/Parts.cmake names the Debian package that brings it")
  endif()
endforeach()

function(switchyard_print_parts)
  message(STATUS "switchyard ${PROJECT_VERSION}: ${CMAKE_BUILD_TYPE}, x86 kernels: ${SWITCHYARD_X86_KERNELS}")
  foreach(part ${SWITCHYARD_PARTS})
    string(REPLACE "|" ";" fields "${part}")
    list(GET fields 0 name)
    list(GET fields 1 found)
    list(GET fields 2 gives)
    list(GET fields 3 package)
    if(found)
      message(STATUS "  with    ${name}: ${gives}")
    else()
      message(STATUS "  without ${name}: ${gives} (apt install ${package})")
    endif()
  endforeach()
endfunction()
