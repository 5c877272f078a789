/* libcuda.so.1 without a GPU: the calls that the GPU checks make, with cuda.h's signatures; the work is done by the CPU.
 * Time is made up: copies take as long as the setting "copy_gb_s" says. */
#include "settings.h"

#define OK 0

static int context = -1;
static double clock_ms;

int cuInit(unsigned flags)
{
	(void)flags;
	may_hang("cuInit", -1);
	return number("cuda_init", -1, OK);
}

int cuGetErrorName(int status, const char **to)
{
	*to = status == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : status == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
	return OK;
}
int cuDeviceGetCount(int *to) { *to = number("cuda_count", -1, number("count", -1, 1)); return OK; }

int cuDeviceGetPCIBusId(char *to, int length, int device)
{
	snprintf(to, length, "0000:00:%02x.0", 0x10 + device);
	return OK;
}

int cuCtxCreate_v2(void **to, unsigned flags, int device)
{
	(void)flags;
	context = device;
	*to = &context;
	may_hang("cuCtxCreate_v2", device);
	setenv("FAKE_GPU_AWAKE", "1", 1);
	return number("context", device, OK);
}

int cuCtxDestroy_v2(void *which) { (void)which; return OK; }

/* Memory is what is looked at: the first part of each piece, of which the GPU has as many as it has memory. */
#define PART (8 << 20)
static unsigned long long taken;

int cuMemAlloc_v2(unsigned long long *to, size_t bytes)
{
	unsigned long long mib = number("memory_mib", context, 0) - number("used_mib", context, 0);

	if ((taken += bytes) > mib << 20)
		return 2; /* CUDA_ERROR_OUT_OF_MEMORY */
	*to = (unsigned long long)calloc(1, bytes < PART ? bytes : PART);
	return OK;
}

int cuMemFree_v2(unsigned long long which) { taken -= 256 << 20; free((void *)which); return OK; } /* only copies are freed */
int cuMemsetD32_v2(unsigned long long to, unsigned what, size_t n) { (void)n; *(unsigned *)to = what; return OK; }
int cuModuleLoadData(void **to, const void *image) { *to = (void *)image; return OK; }

int cuModuleGetFunction(void **to, void *module, const char *name)
{
	*to = (void *)(strcmp(name, "fill") ? "check" : "fill");
	return strstr(module, name) ? OK : 500; /* CUDA_ERROR_NOT_FOUND */
}

/* Of a whole piece the first thousand numbers stand for all: 72 GB would take minutes. */
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
		   unsigned shared, void *stream, void **arguments, void **extra)
{
	unsigned *memory = *(unsigned **)arguments[0], n = *(unsigned *)arguments[1], first = *(unsigned *)arguments[2], i;
	int fills = !strcmp(function, "fill"), is_large = n > PART / 4;

	(void)gy, (void)gz, (void)by, (void)bz, (void)shared, (void)stream, (void)extra;
	for (i = 0; i < gx * bx && i < (is_large ? 1000 : n); i++)
		if (fills)
			memory[i] = 3 * (first + i) + 1;
		else
			**(unsigned **)arguments[3] += memory[i] != 3 * (first + i) + 1;
	if (fills && !is_large)
		memory[n / 2] ^= number("wrong_bits", context, 0);
	if (fills && is_large && first)
		memory[1] ^= number("memory_bits", context, 0);
	return number("launch", context, OK);
}

int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t bytes)
{
	memcpy((void *)to, from, bytes);
	return OK;
}

int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t bytes)
{
	memcpy(to, (void *)from, bytes);
	return OK;
}

int cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes, void *stream)
{
	(void)stream;
	memcpy((void *)to, (void *)from, bytes < PART ? bytes : 4000);
	((unsigned *)to)[7] ^= number("copy_bits", context, 0);
	clock_ms += 2.0 * bytes / number("copy_gb_s", context, 1) / 1e6;
	return OK;
}

int cuEventCreate(void **to, unsigned flags) { (void)flags; *to = calloc(1, sizeof(double)); return OK; }
int cuEventDestroy_v2(void *event) { free(event); return OK; }
int cuEventRecord(void *event, void *stream) { (void)stream; *(double *)event = clock_ms; return OK; }

int cuEventSynchronize(void *event)
{
	(void)event;
	may_hang("cuEventSynchronize", context);
	return OK;
}

int cuCtxSynchronize(void) { return cuEventSynchronize(NULL); }

int cuEventElapsedTime(float *to, void *from, void *until)
{
	*to = *(double *)until - *(double *)from;
	return OK;
}
