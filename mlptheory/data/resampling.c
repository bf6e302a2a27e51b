/* Images of bytes, normalized, moved by matrices with few numbers in a row, and mixed with the ones before them. */

#include <stddef.h>
#include <stdint.h>

/* The matrices of one axis, of `count` numbers in a row. */
typedef struct {
    const int32_t *starts; /* of each row, where its numbers begin; NULL for the identity */
    const float *weights;  /* the first number of all rows, the second of all rows, ... */
    ptrdiff_t count;
    ptrdiff_t stride; /* 1 if every image has a matrix of its own, 0 if one serves all */
    ptrdiff_t size_in, size_out;
} Axis;

/* Of an image's numbers, each `per` in a row have a scale and an offset. */
static void normalize(const uint8_t *restrict pixels, const float *restrict scale, const float *restrict offset,
                      ptrdiff_t per, ptrdiff_t first, ptrdiff_t n, float *restrict found) {
    if (per == 1) {
        for (ptrdiff_t i = first; i < first + n; i++) found[i - first] = (float)pixels[i] * scale[i] + offset[i];
        return;
    }
    for (ptrdiff_t i = first, end; i < first + n; i = end) {
        float own_scale = scale[i / per], own_offset = offset[i / per];
        end = (i / per + 1) * per < first + n ? (i / per + 1) * per : first + n;
        for (ptrdiff_t j = i; j < end; j++) found[j - first] = (float)pixels[j] * own_scale + own_offset;
    }
}

/* One image; the scratch has room for a line of it and for all its lines, the columns of which are moved. */
static void make(const uint8_t *pixels, ptrdiff_t image, ptrdiff_t channels, const Axis *rows, const Axis *columns,
                 const float *scale, const float *offset, ptrdiff_t per, float *restrict scratch,
                 float *restrict found) {
    ptrdiff_t height = rows->size_in, width = columns->size_in, h = rows->size_out, w = columns->size_out;
    const uint8_t *own = pixels + image * channels * height * width;
    const int32_t *row_starts = rows->starts ? rows->starts + image * rows->stride * h : NULL;
    const int32_t *column_starts = columns->starts ? columns->starts + image * columns->stride * w : NULL;
    const float *row_weights = rows->starts ? rows->weights + image * rows->stride * rows->count * h : NULL;
    const float *column_weights =
        columns->starts ? columns->weights + image * columns->stride * columns->count * w : NULL;
    ptrdiff_t low = 0, high = height;
    if (row_starts) {
        low = height;
        high = 0;
        for (ptrdiff_t i = 0; i < h; i++) {
            if (row_starts[i] < low) low = row_starts[i];
            if (row_starts[i] + rows->count > high) high = row_starts[i] + rows->count;
        }
    }
    float *restrict line = scratch, *restrict lines = scratch + width;
    for (ptrdiff_t c = 0; c < channels; c++) {
        for (ptrdiff_t y = low; y < high; y++) {
            float *restrict goal = (row_starts ? lines : found + c * h * w) + y * w;
            float *restrict from = column_starts ? line : goal;
            normalize(own, scale, offset, per, (c * height + y) * width, width, from);
            if (!column_starts) continue;
            for (ptrdiff_t j = 0; j < w; j++) goal[j] = column_weights[j] * line[column_starts[j]];
            for (ptrdiff_t k = 1; k < columns->count; k++)
                for (ptrdiff_t j = 0; j < w; j++) goal[j] += column_weights[k * w + j] * line[column_starts[j] + k];
        }
        if (!row_starts) continue;
        for (ptrdiff_t i = 0; i < h; i++) {
            float *restrict goal = found + (c * h + i) * w;
            const float *restrict first = lines + row_starts[i] * w;
            for (ptrdiff_t j = 0; j < w; j++) goal[j] = row_weights[i] * first[j];
            for (ptrdiff_t k = 1; k < rows->count; k++)
                for (ptrdiff_t j = 0; j < w; j++) goal[j] += row_weights[k * h + i] * first[k * w + j];
        }
    }
}

static void mix(const float *restrict others, const float *restrict own, float weight, ptrdiff_t n,
                float *restrict found) {
    float rest = 1.0f - weight;
    for (ptrdiff_t i = 0; i < n; i++) found[i] = own[i] * weight + others[i] * rest;
}

/* Each image, or without weights none, is mixed with the one before it; the first of `each` with the last of them. */
void resample(const uint8_t *pixels, float *found, ptrdiff_t n, ptrdiff_t channels, const Axis *rows,
              const Axis *columns, const float *scale, const float *offset, ptrdiff_t per, const float *weights,
              ptrdiff_t each, float *scratch, ptrdiff_t room, int threads) {
    ptrdiff_t size = channels * rows->size_out * columns->size_out;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++) {
        float *work = scratch + part * room, *before = work + room - 2 * size, *now = before + size;
        for (ptrdiff_t i = n * part / threads; i < n * (part + 1) / threads; i++) {
            if (!weights) {
                make(pixels, i, channels, rows, columns, scale, offset, per, work, found + i * size);
                continue;
            }
            if (i % each == 0 || i == n * part / threads)
                make(pixels, i % each == 0 ? i + each - 1 : i - 1, channels, rows, columns, scale, offset, per, work,
                     before);
            make(pixels, i, channels, rows, columns, scale, offset, per, work, now);
            mix(before, now, weights[i], size, found + i * size);
            float *last = before;
            before = now;
            now = last;
        }
    }
}
