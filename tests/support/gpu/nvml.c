/* libnvidia-ml.so.1 without a driver: the calls that GPU checks, golden-idle and golden-health make, as in nvml.h. */
#include "settings.h"
#include <time.h>

#define OK 0
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define GPU(device) ((int)(long)(device) - 1)

typedef void *device_t;
struct memory { unsigned long long total, free, used; };
struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };

static int copy(char *to, unsigned length, const char *text)
{
	snprintf(to, length, "%s", text);
	return OK;
}

static int answer(unsigned *to, const char *name, device_t device, unsigned long long otherwise)
{
	if (!strcmp(setting(name, GPU(device), ""), "unsupported"))
		return NOT_SUPPORTED;
	*to = number(name, GPU(device), otherwise);
	return OK;
}

int nvmlInit_v2(void)
{
	may_hang("nvmlInit_v2", -1);
	return number("init", -1, OK);
}

const char *nvmlErrorString(int status) { return status == 15 ? "GPU is lost" : "Unknown Error"; }
int nvmlSystemGetDriverVersion(char *to, unsigned length) { return copy(to, length, setting("driver", -1, "0")); }
int nvmlDeviceGetCount_v2(unsigned *to) { *to = number("count", -1, 1); return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *to)
{
	*to = (device_t)(long)(index + 1);
	may_hang("nvmlDeviceGetHandleByIndex_v2", index);
	return number("handle", index, OK);
}

int nvmlDeviceGetName(device_t d, char *to, unsigned length) { return copy(to, length, setting("name", GPU(d), "")); }

int nvmlDeviceGetUUID(device_t d, char *to, unsigned length)
{
	snprintf(to, length, "GPU-00000000-0000-0000-0000-%012d", GPU(d));
	return OK;
}

int nvmlDeviceGetMemoryInfo(device_t d, struct memory *to)
{
	to->total = number("memory_mib", GPU(d), 0) << 20;
	to->used = number("used_mib", GPU(d), 0) << 20;
	to->free = to->total - to->used;
	may_hang("nvmlDeviceGetMemoryInfo", GPU(d));
	return number("memory_error", GPU(d), OK);
}

int nvmlDeviceGetPciInfo_v3(device_t d, struct pci *to)
{
	memset(to, 0, sizeof *to);
	snprintf(to->bus_id, sizeof to->bus_id, "00000000:00:%02X.0", 0x10 + GPU(d));
	return OK;
}

int nvmlDeviceGetPersistenceMode(device_t d, unsigned *to) { return answer(to, "persistence", d, 1); }

int nvmlDeviceGetEccMode(device_t d, unsigned *current, unsigned *pending)
{
	*pending = 1;
	return answer(current, "ecc", d, 1);
}

int nvmlDeviceGetTotalEccErrors(device_t d, int kind, int counter, unsigned long long *to)
{
	*to = kind == 1 ? number(counter ? "uncorrected_ever" : "uncorrected", GPU(d), 0) : 0;
	return OK;
}

int nvmlDeviceGetRemappedRows(device_t d, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
	*corrected = 0;
	*uncorrected = number("remapped", GPU(d), 0);
	*failed = number("remap_failed", GPU(d), 0);
	return answer(pending, "remap_pending", d, 0);
}

int nvmlDeviceGetRetiredPagesPendingStatus(device_t d, unsigned *to) { return answer(to, "pages_pending", d, 0); }

/* While nothing computes, a link may be slower and narrower: support/gpu/cuda.c says that something does. */
static int link_answer(unsigned *to, const char *name, const char *at_rest, device_t d)
{
	unsigned full = number(name, GPU(d), 16);

	*to = getenv("FAKE_GPU_AWAKE") ? full : number(at_rest, GPU(d), full);
	return OK;
}

int nvmlDeviceGetCurrPcieLinkGeneration(device_t d, unsigned *to)
{
	may_hang("nvmlDeviceGetCurrPcieLinkGeneration", GPU(d));
	return link_answer(to, "pcie_generation", "pcie_generation_at_rest", d);
}

int nvmlDeviceGetCurrPcieLinkWidth(device_t d, unsigned *to) { return link_answer(to, "pcie_width", "pcie_width_at_rest", d); }

int nvmlDeviceGetCurrentClocksThrottleReasons(device_t d, unsigned long long *to)
{
	static time_t first;

	first = first ? first : time(NULL);
	*to = time(NULL) - first >= (time_t)number("throttled_after_s", GPU(d), 0) ? number("throttled_by", GPU(d), 0) : 0;
	may_hang("nvmlDeviceGetCurrentClocksThrottleReasons", GPU(d));
	return number("clocks_error", GPU(d), OK);
}

int nvmlDeviceGetMigMode(device_t d, unsigned *current, unsigned *pending)
{
	*pending = 0;
	return answer(current, "mig", d, 0);
}

int nvmlDeviceValidateInforom(device_t d) { return number("inforom", GPU(d), OK); }

int nvmlDeviceGetPowerManagementDefaultLimit(device_t d, unsigned *to)
{
	return answer(to, "power_default", d, 300000);
}

int nvmlDeviceGetNvLinkState(device_t d, unsigned link, unsigned *to)
{
	if (link >= number("nvlinks", GPU(d), 0))
		return NOT_SUPPORTED;
	*to = link >= number("nvlinks_down", GPU(d), 0);
	return OK;
}

int nvmlDeviceGetP2PStatus(device_t one, device_t other, int what, unsigned *to)
{
	(void)other, (void)what;
	answer(to, "p2p", one, 0);
	return number("p2p_error", GPU(one), OK);
}

/* What the agent of the role golden_idle asks. */
struct utilization { unsigned gpu, memory; };
struct sample { unsigned long long at; union { unsigned number; double real; } value; };
struct process { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };

int nvmlShutdown(void) { return OK; }
int nvmlDeviceGetArchitecture(device_t d, unsigned *to) { return answer(to, "architecture", d, 6); }

int nvmlDeviceGetUtilizationRates(device_t d, struct utilization *to)
{
	to->memory = number("memory_utilization", GPU(d), 0);
	to->gpu = number("utilization", GPU(d), 0);
	return number("lost", GPU(d), OK);
}

int nvmlDeviceGetPowerUsage(device_t d, unsigned *to) { return answer(to, "power", d, 300000); }
int nvmlDeviceGetEnforcedPowerLimit(device_t d, unsigned *to) { return answer(to, "power_limit", d, 300000); }

/* One sample, at `burst_at`, of a burst that the rate of now no longer shows. */
int nvmlDeviceGetSamples(device_t d, int kind, unsigned long long since, unsigned *type, unsigned *count, struct sample *to)
{
	unsigned long long at = number("burst_at", GPU(d), 0);

	if (kind != 1 || at <= since)
		return NOT_FOUND;
	*type = 1;
	*count = 1;
	if (to) {
		to->at = at;
		to->value.number = number("burst", GPU(d), 0);
	}
	return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device_t d, unsigned *count, struct process *to)
{
	unsigned pid = number("pid", GPU(d), 0);

	*count = pid != 0;
	if (pid)
		to->pid = pid;
	return OK;
}

/* Where this library is preloaded: a clock that some server keeps right. */
int adjtimex(void *to)
{
	(void)to;
	return number("clock", -1, 0);
}
