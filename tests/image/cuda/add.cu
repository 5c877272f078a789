// Adds one to 64 numbers on the GPU and asks cuBLAS for its version: proves compiler, headers, linker and run path.
// Prints "<cudaError_t> <its text>"; exit status 0 when the numbers came back right, 1 when not, 2 when CUDA refused.
#include <cstdio>

#include <cublas_v2.h>
#include <cuda_runtime.h>

__global__ void add_one(int *values) { values[threadIdx.x] += 1; }

static int refused(cudaError_t error)
{
    std::printf("%d %s\n", static_cast<int>(error), cudaGetErrorString(error));
    return 2;
}

int main()
{
    int host[64] = {}, version = 0;
    int *device = nullptr;
    if (cublasGetProperty(MAJOR_VERSION, &version) != CUBLAS_STATUS_SUCCESS || version == 0)
        return 1;
    cudaError_t error = cudaMalloc(&device, sizeof host);
    if (error != cudaSuccess)
        return refused(error);
    cudaMemcpy(device, host, sizeof host, cudaMemcpyHostToDevice);
    add_one<<<1, 64>>>(device);
    error = cudaMemcpy(host, device, sizeof host, cudaMemcpyDeviceToHost);
    if (error != cudaSuccess)
        return refused(error);
    std::printf("0 %d\n", host[63]);
    return host[63] == 1 ? 0 : 1;
}
