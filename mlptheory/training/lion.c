/* One step of Lion on the numbers of a parameter, each rounded as torch's vectorized operations round them. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline float widened(uint16_t bits) {
    uint32_t whole = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &whole, sizeof value);
    return value;
}

static inline uint16_t narrowed(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t to_nearest_even = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)(value != value ? 0x7fc0 : to_nearest_even);
}

/* Where it is written out for each kind of gradient, no branch is left in the loop. */
#define STEP(GRADIENT, KEEP_COPY)                                                                                      \
    _Pragma("omp parallel for simd num_threads(threads) if (n > 32768)")                                               \
    for (ptrdiff_t i = 0; i < n; i++) {                                                                                \
        float gradient = GRADIENT, mean = means[i];                                                                    \
        float update = fmaf(gradient, rest1, mean * beta1);                                                            \
        float weight = fmaf((float)((update > 0) - (update < 0)), -lr, weights[i] * kept);                             \
        weights[i] = weight;                                                                                           \
        means[i] = fmaf(gradient, rest2, mean * beta2);                                                                \
        KEEP_COPY;                                                                                                     \
    }

/* rest1 and rest2 are 1 - beta1 and 1 - beta2, kept is 1 - lr * decay; copies may be NULL. */
void lion(float *restrict weights, float *restrict means, const void *gradients, int in_bfloat16,
          uint16_t *restrict copies, ptrdiff_t n, float lr, float kept, float beta1, float rest1, float beta2,
          float rest2, int threads) {
    const float *restrict wide = gradients;
    const uint16_t *restrict narrow = gradients;
    if (in_bfloat16 && copies) STEP(widened(narrow[i]), copies[i] = narrowed(weight))
    else if (in_bfloat16) STEP(widened(narrow[i]), )
    else if (copies) STEP(wide[i], copies[i] = narrowed(weight))
    else STEP(wide[i], )
}
