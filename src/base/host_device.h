#pragma once

/// Marks functions that kernels and the host share, so that tests without a GPU can run them.
#if defined(__CUDACC__)
#define SWITCHYARD_HD __host__ __device__
#else
#define SWITCHYARD_HD
#endif
