/* The transpose of a matrix of 16-bit numbers, eight rows and columns at a time. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { SIDE = 8, ROWS = 256, COLUMNS = 32 };

typedef uint16_t Line __attribute__((vector_size(2 * SIDE)));

static inline ptrdiff_t smaller(ptrdiff_t one, ptrdiff_t other) { return one < other ? one : other; }

/* Three times every line is interleaved with the one four below it. */
static inline void transpose_square(const uint16_t *matrix, ptrdiff_t columns, uint16_t *found, ptrdiff_t rows) {
    Line lines[SIDE], next[SIDE];
    for (int i = 0; i < SIDE; i++) memcpy(&lines[i], matrix + i * columns, sizeof(Line));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < SIDE / 2; i++) {
            next[2 * i] = __builtin_shufflevector(lines[i], lines[i + SIDE / 2], 0, 8, 1, 9, 2, 10, 3, 11);
            next[2 * i + 1] = __builtin_shufflevector(lines[i], lines[i + SIDE / 2], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        memcpy(lines, next, sizeof lines);
    }
    for (int i = 0; i < SIDE; i++) memcpy(found + i * rows, &lines[i], sizeof(Line));
}

void transpose(const uint16_t *restrict matrix, uint16_t *restrict found, ptrdiff_t rows, ptrdiff_t columns,
               int threads) {
    #pragma omp parallel for num_threads(threads) collapse(2) if (rows * columns > 32768)
    for (ptrdiff_t left = 0; left < columns; left += COLUMNS)
        for (ptrdiff_t top = 0; top < rows; top += ROWS) {
            /* Lines of a long matrix would drive each other out of the cache. */
            uint16_t part[COLUMNS][ROWS];
            ptrdiff_t width = smaller(COLUMNS, columns - left), height = smaller(ROWS, rows - top);
            const uint16_t *corner = matrix + top * columns + left;
            ptrdiff_t squares_end = width - width % SIDE, row = 0;
            for (; row + SIDE <= height; row += SIDE) {
                for (ptrdiff_t column = 0; column < squares_end; column += SIDE)
                    transpose_square(corner + row * columns + column, columns, &part[column][row], ROWS);
                for (ptrdiff_t column = squares_end; column < width; column++)
                    for (ptrdiff_t i = row; i < row + SIDE; i++) part[column][i] = corner[i * columns + column];
            }
            for (; row < height; row++)
                for (ptrdiff_t column = 0; column < width; column++) part[column][row] = corner[row * columns + column];
            for (ptrdiff_t column = 0; column < width; column++)
                memcpy(found + (left + column) * rows + top, part[column], (size_t)height * sizeof **part);
        }
}
