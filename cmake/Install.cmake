# cmake --install: headers, the static library, the command, a CMake package and a pkg-config file.
include(CMakePackageConfigHelpers)

# What the library links, as the package's users must find it: "CMake target|find_dependency
# arguments|pkg-config module|linker flags". The command and the tests link more, privately.
set(known_dependencies
    "Threads::Threads|Threads||-pthread"
    "fmt::fmt|fmt|fmt|"
    "OpenMP::OpenMP_CXX|OpenMP COMPONENTS CXX||${OpenMP_CXX_FLAGS}"
    "DNNL::dnnl|DNNL||-ldnnl"
    "CUDA::cudart_static|CUDAToolkit||-lcudart_static -ldl -lrt"
    "CUDA::cublasLt|CUDAToolkit||-lcublasLt"
    "CUDA::cublas|CUDAToolkit||-lcublas"
    "${OPENBLAS_LIBRARY}|||-lopenblas")

set(SWITCHYARD_FIND_DEPENDENCIES "")
set(SWITCHYARD_PC_REQUIRES "")
set(SWITCHYARD_PC_LIBS "")
get_target_property(linked switchyard LINK_LIBRARIES)
list(FILTER linked EXCLUDE REGEX "^(::@|\\$<BUILD_INTERFACE:)")
list(REMOVE_DUPLICATES linked)
foreach(library ${linked})
  set(known OFF)
  foreach(dependency ${known_dependencies})
    string(REPLACE "|" ";" fields "${dependency}")
    list(GET fields 0 target)
    if(NOT library STREQUAL target)
      continue()
    endif()
    set(known ON)
    list(GET fields 1 package)
    list(GET fields 2 module)
    list(GET fields 3 flags)
    if(package)
      string(APPEND SWITCHYARD_FIND_DEPENDENCIES "find_dependency(${package})\n")
    endif()
    list(APPEND SWITCHYARD_PC_REQUIRES ${module})
    list(APPEND SWITCHYARD_PC_LIBS ${flags})
  endforeach()
  if(NOT known)
    message(FATAL_ERROR "the library links ${library}: tell cmake/Install.cmake how its users find "
                        "it, or link it as $<BUILD_INTERFACE:${library}> if it is header-only")
  endif()
endforeach()
list(JOIN SWITCHYARD_PC_REQUIRES " " SWITCHYARD_PC_REQUIRES)
list(JOIN SWITCHYARD_PC_LIBS " " SWITCHYARD_PC_LIBS)

install(DIRECTORY include/switchyard DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS switchyard EXPORT switchyardTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/switchyard)
install(EXPORT switchyardTargets NAMESPACE switchyard:: DESTINATION ${package_dir})
configure_package_config_file(cmake/switchyardConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/generated/switchyardConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/generated/switchyardConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/generated/switchyardConfig.cmake
              ${PROJECT_BINARY_DIR}/generated/switchyardConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/FindDNNL.cmake
        DESTINATION ${package_dir})

# Relative to the file, so that `cmake --install --prefix` and moved trees work.
file(RELATIVE_PATH SWITCHYARD_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig
     ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" SWITCHYARD_PC_PREFIX ${SWITCHYARD_PC_PREFIX})
configure_file(cmake/switchyard.pc.in ${PROJECT_BINARY_DIR}/generated/switchyard.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/generated/switchyard.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
