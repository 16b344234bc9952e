/* A stand-in for NVIDIA's libcuda.so.1 as far as a device is asked for its name; tests/support/machines/boxes.py compiles it. Settings:
 * FAKE_CUDA_NAME, FAKE_CUDA_CODE (of cuInit). The device is the first byte of CUDA_VISIBLE_DEVICES in the UUID. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cuInit(unsigned flags) {
    const char *code = getenv("FAKE_CUDA_CODE");
    (void)flags;
    return code ? atoi(code) : 0;
}
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    const char *told = getenv("FAKE_CUDA_NAME");
    (void)device;
    snprintf(name, (size_t)length, "%s", told ? told : "NVIDIA Fake 100");
    return 0;
}
int cuDeviceGetUuid(unsigned char uuid[16], int device) {
    const char *seen = getenv("CUDA_VISIBLE_DEVICES");
    (void)device;
    memset(uuid, 0, 16);
    if (seen) uuid[0] = (unsigned char)(16 * (seen[0] - '0'));
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = (size_t)24 << 30; return 0; }
