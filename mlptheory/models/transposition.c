/* The transpose of a matrix of 16-bit numbers, a part at a time that fits into a core's nearest cache. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { ROWS = 128, COLUMNS = 32 };

static inline ptrdiff_t smaller(ptrdiff_t one, ptrdiff_t other) { return one < other ? one : other; }

void transpose(const uint16_t *restrict matrix, uint16_t *restrict found, ptrdiff_t rows, ptrdiff_t columns,
               int threads) {
    #pragma omp parallel for num_threads(threads) collapse(2) if (rows * columns > 32768)
    for (ptrdiff_t left = 0; left < columns; left += COLUMNS)
        for (ptrdiff_t top = 0; top < rows; top += ROWS) {
            uint16_t part[COLUMNS][ROWS];
            ptrdiff_t right = smaller(left + COLUMNS, columns), bottom = smaller(top + ROWS, rows);
            for (ptrdiff_t row = top; row < bottom; row++)
                for (ptrdiff_t column = left; column < right; column++)
                    part[column - left][row - top] = matrix[row * columns + column];
            for (ptrdiff_t column = left; column < right; column++)
                memcpy(found + column * rows + top, part[column - left], (size_t)(bottom - top) * sizeof **part);
        }
}
