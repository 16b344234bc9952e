/* A stand-in for NVIDIA's libnvidia-ml.so.1 with a known true energy; tests/support/machines/fake_nvml.py compiles it and tells its use.
 * All settings are environment variables FAKE_NVML_*, read by nvmlInit. Times count from FAKE_NVML_ZERO (CLOCK_MONOTONIC).
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, UNSUPPORTED = 3, DENIED = 4, TOO_SMALL = 7, NOT_LOADED = 9, UNKNOWN = 999 };
enum { MOST_GPUS = 8, MOST_INSTANCES = 2 };
typedef struct { int index, instance; } Device; /* instance: -1 the whole GPU */
typedef Device *Handle;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef struct {
    uint32_t field, scope;
    int64_t timestamp, latency;
    uint32_t type;
    int32_t answer;
    union { double d; unsigned u; unsigned long long ull; } value;
} FieldValue;
typedef struct { char legacy[16]; unsigned domain, bus, device, pci, subsystem; char address[32]; } Pci;

static Device gpus[MOST_GPUS], instances[MOST_GPUS][MOST_INSTANCES];
static int n_open = 0, n_gpus = 1; /* nvmlInit counts its callers */
static char names[MOST_GPUS][64];
static const char *modes = "";
static double zero, low_w, high_w, period, duty, counter_sec, average_sec, update_sec, at_sec, until_sec;
static double clock_mhz, dropped_mhz, limit_w, memory_gib, instance_gib[MOST_INSTANCES];
static long drop_reasons, neighbour_pid;
static int init_code, query_code;
static const char *process_file, *at_file;

static double number(const char *name, double otherwise) {
    const char *text = getenv(name);
    return text && *text ? atof(text) : otherwise;
}

static int is_mode(const char *word) {
    size_t length = strlen(word);
    for (const char *at = modes; (at = strstr(at, word)); at += length)
        if ((at == modes || at[-1] == ',') && (at[length] == 0 || at[length] == ',')) return 1;
    return 0;
}

static void configure(void) {
    const char *text = getenv("FAKE_NVML_MODE");
    modes = text ? text : "";
    low_w = number("FAKE_NVML_LOW_W", 80);
    high_w = number("FAKE_NVML_HIGH_W", 320);
    period = number("FAKE_NVML_PERIOD_SEC", 3.3);
    duty = number("FAKE_NVML_DUTY", 0.5);
    counter_sec = number("FAKE_NVML_COUNTER_SEC", 0.1);
    average_sec = number("FAKE_NVML_AVERAGE_SEC", 1);
    update_sec = number("FAKE_NVML_UPDATE_SEC", 0.1);
    at_sec = number("FAKE_NVML_AT_SEC", 0);
    until_sec = number("FAKE_NVML_UNTIL_SEC", 1e12);
    clock_mhz = number("FAKE_NVML_CLOCK_MHZ", 1980);
    dropped_mhz = number("FAKE_NVML_DROPPED_MHZ", 1200);
    drop_reasons = (long)number("FAKE_NVML_DROP_REASONS", 0x40);
    neighbour_pid = (long)number("FAKE_NVML_NEIGHBOUR_PID", 4242);
    limit_w = number("FAKE_NVML_LIMIT_W", 700);
    memory_gib = number("FAKE_NVML_MEMORY_GIB", 80);
    instance_gib[0] = number("FAKE_NVML_INSTANCE_GIB", 40);
    instance_gib[1] = number("FAKE_NVML_SECOND_GIB", 20);
    zero = number("FAKE_NVML_ZERO", 0);
    init_code = (int)number("FAKE_NVML_INIT_CODE", 0);
    query_code = (int)number("FAKE_NVML_QUERY_CODE", 0);
    process_file = getenv("FAKE_NVML_PROCESS_FILE");
    at_file = getenv("FAKE_NVML_AT_FILE");
    const char *list = getenv("FAKE_NVML_NAMES");
    char copy[512];
    snprintf(copy, sizeof copy, "%s", list && *list ? list : "NVIDIA Fake 100");
    n_gpus = 0;
    for (char *rest = copy, *name; n_gpus < MOST_GPUS && (name = strsep(&rest, ","));)
        snprintf(names[n_gpus++], sizeof names[0], "%s", name);
    for (int i = 0; i < n_gpus; i++) {
        gpus[i] = (Device){i, -1};
        for (int k = 0; k < MOST_INSTANCES; k++) instances[i][k] = (Device){i, k};
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec - zero;
}

/* how much later than from time zero at_sec and until_sec count: from the time in at_file, never before it is there */
static double event_zero(void) {
    static double later = INFINITY;
    double written;
    if (!at_file) return 0;
    FILE *file = isinf(later) ? fopen(at_file, "r") : NULL;
    if (file && fscanf(file, "%lf", &written) == 1) later = written - zero;
    if (file) fclose(file);
    return later;
}

static int is_event(void) { double t = now() - event_zero(); return at_sec <= t && t < until_sec; }

/* a square wave that is high for the first `duty` of each period; the second and later GPUs stay at the low power */
static double power(int gpu, double t) {
    double phase = t / period - floor(t / period);
    return gpu == 0 && phase < duty ? high_w : low_w;
}

static double energy(int gpu, double t) { /* its integral from time zero */
    double periods = floor(t / period), rest = t - periods * period;
    double high_sec = periods * duty * period + fmin(rest, duty * period);
    return low_w * t + (gpu == 0 ? (high_w - low_w) * high_sec : 0);
}

/* The true energy in joules of GPU `gpu` between two times of CLOCK_MONOTONIC; needs no nvmlInit. */
double fake_nvml_true_energy_j(int gpu, double start, double end) {
    if (!n_open) configure();
    return energy(gpu, end - zero) - energy(gpu, start - zero);
}

static int refusal(void) { /* of every reading of power and energy */
    if (!n_open) return UNINITIALIZED;
    if (is_mode("denied")) return DENIED;
    if (is_mode("error") && is_event()) return UNKNOWN;
    return is_mode("nopower") ? UNSUPPORTED : OK;
}

static int is_nonsense(void) { return is_mode("nonsense") && (long)(now() / 0.1) % 5 == 0; }

static unsigned milliwatts(int gpu, int is_average) {
    if (is_nonsense()) return 3700000000u;
    double t = floor(now() / update_sec) * update_sec;
    if (!is_average) return (unsigned)(1000 * power(gpu, t));
    return (unsigned)(1000 * (energy(gpu, t) - energy(gpu, t - average_sec)) / average_sec);
}

int nvmlInit_v2(void) {
    configure();
    if (is_mode("noinit")) return NOT_LOADED;
    if (init_code) return init_code;
    n_open++;
    return OK;
}
int nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
int nvmlShutdown(void) { n_open -= n_open > 0; return OK; }
const char *nvmlErrorString(int code) {
    switch (code) {
    case OK: return "Success";
    case UNSUPPORTED: return "Not Supported";
    case DENIED: return "Insufficient Permissions";
    case NOT_LOADED: return "Driver Not Loaded";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}
int nvmlSystemGetDriverVersion(char *text, unsigned n) { snprintf(text, n, "580.65.06"); return OK; }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 13000; return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = (unsigned)n_gpus; return n_open ? OK : UNINITIALIZED; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle *device) {
    if (!n_open) return UNINITIALIZED;
    if (index >= (unsigned)n_gpus) return INVALID;
    *device = &gpus[index];
    return OK;
}
int nvmlDeviceGetIndex(Handle device, unsigned *index) { *index = (unsigned)device->index; return OK; }
int nvmlDeviceGetName(Handle device, char *text, unsigned n) {
    if (query_code) return query_code;
    if (is_mode("nonsense")) { snprintf(text, n, "\xf8\x9f\xb0"); return OK; }
    if (device->instance < 0) snprintf(text, n, "%s", names[device->index]);
    else snprintf(text, n, "%s MIG %dg.%.0fgb", names[device->index], device->instance + 1, instance_gib[device->instance]);
    return OK;
}
int nvmlDeviceGetUUID(Handle device, char *text, unsigned n) {
    if (query_code) return query_code;
    if (device->instance < 0) snprintf(text, n, "GPU-%d0000000-fa4e-0000-0000-000000000000", device->index);
    else snprintf(text, n, "MIG-%d%d000000-fa4e-0000-0000-000000000000", device->index, device->instance);
    return OK;
}
int nvmlDeviceGetPciInfo_v3(Handle device, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    /* in mode `reversed` the driver numbers against the order of the addresses */
    pci->bus = (unsigned)(1 + (is_mode("reversed") ? n_gpus - 1 - device->index : device->index));
    snprintf(pci->legacy, sizeof pci->legacy, "0000:%02X:00.0", pci->bus & 0xff);
    snprintf(pci->address, sizeof pci->address, "00000000:%02X:00.0", pci->bus & 0xff);
    return OK;
}
int nvmlDeviceGetArchitecture(Handle device, unsigned *is) { (void)device; *is = is_mode("pascal") ? 4 : 9; return OK; }
int nvmlDeviceGetMigMode(Handle device, unsigned *current, unsigned *pending) {
    *current = *pending = (unsigned)is_mode("mig");
    return is_mode("pascal") || device->instance >= 0 ? UNSUPPORTED : OK;
}
int nvmlDeviceGetMaxMigDeviceCount(Handle device, unsigned *count) { (void)device; *count = is_mode("mig") ? 7 : 0; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(Handle device, unsigned index, Handle *instance) {
    if (!is_mode("mig") || index >= MOST_INSTANCES) return 6; /* not found */
    *instance = &instances[device->index][index];
    return OK;
}
int nvmlDeviceGetGpuInstanceId(Handle device, unsigned *id) {
    *id = (unsigned)(2 * device->instance + 1);
    return device->instance < 0 ? 6 : OK; /* not found */
}
int nvmlDeviceGetComputeInstanceId(Handle device, unsigned *id) { *id = 0; return device->instance < 0 ? 6 : OK; }
int nvmlDeviceGetPersistenceMode(Handle device, unsigned *mode) { (void)device; *mode = 1; return OK; }
int nvmlDeviceGetEccMode(Handle device, unsigned *current, unsigned *pending) {
    (void)device;
    *current = *pending = 1;
    return is_mode("pascal") ? UNSUPPORTED : OK;
}
int nvmlDeviceGetEnforcedPowerLimit(Handle device, unsigned *milliwatt) {
    (void)device;
    *milliwatt = (unsigned)(1000 * fmax(0, limit_w));
    return limit_w < 0 ? UNSUPPORTED : OK;
}
int nvmlDeviceGetTemperature(Handle device, unsigned sensor, unsigned *celsius) {
    (void)device, (void)sensor;
    if (is_mode("nonsense")) { *celsius = 4000000000u; return OK; }
    *celsius = (unsigned)(45 + 20 * (1 - exp(-fmax(0, now()) / 10)));
    return OK;
}
int nvmlDeviceGetClockInfo(Handle device, unsigned type, unsigned *mhz) {
    (void)device;
    double sm = is_mode("clockdrop") && is_event() ? dropped_mhz : clock_mhz;
    *mhz = is_mode("nonsense") ? 4000000000u : type == 2 ? 2619 : (unsigned)sm;
    return OK;
}
int nvmlDeviceGetMaxClockInfo(Handle device, unsigned type, unsigned *mhz) {
    (void)device;
    *mhz = type == 2 ? 2619 : 1980;
    return OK;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(Handle device, unsigned long long *reasons) {
    (void)device;
    *reasons = is_mode("powercap") ? 0x4 : 0;
    if (is_mode("clockdrop") && is_event()) *reasons |= (unsigned long long)drop_reasons;
    return OK;
}
int nvmlDeviceGetCurrentClocksEventReasons(Handle device, unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksThrottleReasons(device, reasons);
}
int nvmlDeviceGetMemoryInfo(Handle device, unsigned long long total_free_used[3]) {
    if (query_code) return query_code;
    double gib = device->instance < 0 ? memory_gib : instance_gib[device->instance];
    total_free_used[0] = (unsigned long long)(gib * (1 << 30));
    total_free_used[2] = gib < 1 ? 0 : 1ULL << 30;
    total_free_used[1] = total_free_used[0] - total_free_used[2];
    if (is_mode("nonsense")) total_free_used[0] = ~0ULL;
    return OK;
}
int nvmlDeviceGetUtilizationRates(Handle device, unsigned gpu_memory[2]) {
    if (is_mode("nonsense")) { gpu_memory[0] = gpu_memory[1] = ~0u; return OK; }
    gpu_memory[0] = power(device->index, now()) > low_w ? 100 : 0;
    gpu_memory[1] = 10;
    return OK;
}
int nvmlDeviceGetTotalEnergyConsumption(Handle device, unsigned long long *millijoules) {
    int code = refusal();
    if (is_mode("nocounter") || is_mode("pascal")) code = code ? code : UNSUPPORTED;
    if (is_mode("countererror") && is_event()) code = UNKNOWN;
    double t = floor(now() / counter_sec) * counter_sec, base = 123456.789;
    double reset_at = event_zero() + at_sec;
    if (is_mode("reset") && t >= reset_at) base = -energy(device->index, reset_at);
    *millijoules = (unsigned long long)(1000 * (base + energy(device->index, t)));
    if (is_mode("nonsense")) *millijoules = (unsigned long long)(1e9 * t * t);
    return code;
}
int nvmlDeviceGetPowerUsage(Handle device, unsigned *milliwatt) {
    *milliwatt = milliwatts(device->index, !is_mode("pascal"));
    return refusal();
}
int nvmlDeviceGetFieldValues(Handle device, int n, FieldValue *values) {
    if (is_mode("nofields") || is_mode("pascal")) return UNSUPPORTED;
    for (int i = 0; i < n; i++) {
        int is_known = values[i].field == 185 || values[i].field == 186;
        int is_scope = values[i].scope == (is_mode("module") ? 1 : 0);
        values[i].type = 1;
        values[i].value.ull = 0;
        values[i].answer = is_known && is_scope ? refusal() : UNSUPPORTED;
        if (!values[i].answer) values[i].value.u = milliwatts(device->index, values[i].field == 185);
    }
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(Handle device, unsigned *count, Process *list) {
    Process found[64];
    unsigned n = 0, room = *count;
    if (is_mode("denied")) return DENIED;
    if (is_mode("neighbour") && device->index == 0 && is_event())
        found[n++] = (Process){(unsigned)neighbour_pid, 1ULL << 30, ~0u, ~0u};
    FILE *file = process_file && device->index == 0 ? fopen(process_file, "r") : NULL;
    unsigned pid;
    for (; file && n < 64 && fscanf(file, "%u", &pid) == 1; n++) found[n] = (Process){pid, 1ULL << 30, ~0u, ~0u};
    if (file) fclose(file);
    *count = n;
    if (n > room) return TOO_SMALL;
    if (n) memcpy(list, found, n * sizeof *list);
    return OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Handle device, unsigned *count, Process *list) {
    unsigned room = *count;
    if (is_mode("denied")) return DENIED;
    *count = is_mode("desktop") && device->index == 0;
    if (*count > room) return TOO_SMALL;
    if (*count) *list = (Process){1111, 100ULL << 20, ~0u, ~0u};
    return OK;
}
