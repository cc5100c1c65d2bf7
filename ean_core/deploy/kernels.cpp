// What the end of a bottleneck needs and PyTorch has no single operation for: float32, on a CPU with AVX2 or AVX-512.
// Tensors are dense with the channels last: u (n, p, k) is the branch before its last 1x1 convolution, at p positions.

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

using Size = int64_t;

#ifdef __AVX512F__
constexpr int LANES = 16;
using Indices = __m512i;
#define PERMUTE(vector, indices) _mm512_permutexvar_ps(indices, vector)
#else
constexpr int LANES = 8;
using Indices = __m256i;
#define PERMUTE(vector, indices) _mm256_permutevar8x32_ps(vector, indices)
#endif
typedef float Vector __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

// A tile of sums stays in registers, and is enough to hide an addition's latency.
constexpr int ROWS = 6, WIDTH = 2, COLUMNS = WIDTH * LANES;
constexpr Size CHUNK = 384;  // rows that one packed panel of weights serves

static inline Vector load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
static inline void save(float* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }

// `height` rows of u times a panel (k, width * LANES), plus a bias: sums (height, width * LANES).
// Not inlined, for its loop needs all the registers there are.
template <int height, int width>
__attribute__((noinline)) static void tile(
    float* sums, const float* u, const float* panel, const float* bias, Size k) {
    Vector s[height][width];
#pragma GCC unroll 6
    for (int r = 0; r < height; r++)
#pragma GCC unroll 2
        for (int v = 0; v < width; v++) s[r][v] = load(bias + v * LANES);
    for (Size i = 0; i < k; i++, panel += width * LANES)
#pragma GCC unroll 6
        for (int r = 0; r < height; r++)
#pragma GCC unroll 2
            for (int v = 0; v < width; v++) s[r][v] += u[r * k + i] * load(panel + v * LANES);
#pragma GCC unroll 6
    for (int r = 0; r < height; r++)
#pragma GCC unroll 2
        for (int v = 0; v < width; v++) save(sums + (r * width + v) * LANES, s[r][v]);
}

// The same for up to ROWS rows.
template <int width>
static void product(float* sums, const float* u, const float* panel, const float* bias, Size k, Size rows) {
    if (rows == ROWS)
        tile<ROWS, width>(sums, u, panel, bias, k);
    else
        for (Size r = 0; r < rows; r++) tile<1, width>(sums + r * width * LANES, u + r * k, panel, bias, k);
}

// out = relu(identity + mask * (u weight + bias)) with weight (k, c), c a multiple of COLUMNS. identity may be nothing,
// or out itself.
// The mask is nothing, (n, c) if groups is 0, else (n, p, groups) with LANES values behind it that may be read.
extern "C" void expand(
    float* out, const float* identity, const float* u, const float* weight, const float* bias, const float* mask,
    Size n, Size p, Size k, Size c, Size groups, int threads) {
    const Size rows = n * p, chunks = (rows + CHUNK - 1) / CHUNK, panels = c / COLUMNS;
    const Size height = ((rows + chunks - 1) / chunks + ROWS - 1) / ROWS * ROWS;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> panel(k * COLUMNS);
        float sums[ROWS * COLUMNS];
#pragma omp for collapse(2) schedule(static)
        for (Size chunk = 0; chunk < chunks; chunk++)
            for (Size j = 0; j < panels; j++) {
                const Size column = j * COLUMNS, end = std::min((chunk + 1) * height, rows);
                for (Size i = 0; i < k; i++) std::copy_n(weight + i * c + column, COLUMNS, panel.data() + i * COLUMNS);
                Size group[WIDTH] = {};  // of each vector's first channel, and of the others counted from it
                alignas(Indices) int others[WIDTH][LANES] = {};
                for (int v = 0; groups && v < WIDTH; v++) {
                    const Size first = column + v * LANES, size = c / groups;
                    group[v] = first / size;
                    for (int l = 0; l < LANES; l++) others[v][l] = (first + l) / size - group[v];
                }
                Size sample = chunk * height / p, next = (sample + 1) * p;  // where the next one begins
                for (Size start = chunk * height; start < end; start += ROWS) {
                    const Size count = std::min<Size>(ROWS, end - start);
                    product<WIDTH>(sums, u + start * k, panel.data(), bias + column, k, count);
                    for (Size row = start; row < start + count; row++) {
                        if (row == next) sample++, next += p;
                        for (int v = 0; v < WIDTH; v++) {
                            const Size channel = column + v * LANES;
                            Vector f = load(sums + ((row - start) * WIDTH + v) * LANES);
                            if (groups)
                                f *= PERMUTE(load(mask + row * groups + group[v]), *(const Indices*)others[v]);
                            else if (mask)
                                f *= load(mask + sample * c + channel);
                            if (identity) f += load(identity + row * c + channel);
                            save(out + row * c + channel, f < 0 ? Vector{} : f);
                        }
                    }
                }
            }
    }
}

// u = relu(u), and mean (n, k) of that over its positions; k is a multiple of LANES.
extern "C" void squeeze(float* mean, float* u, Size n, Size p, Size k, int threads) {
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
    for (Size s = 0; s < n; s++)
        for (Size i = 0; i < k; i += LANES) {
            Vector sums[4] = {};
            for (Size q = 0; q < p; q++) {
                float* at = u + (s * p + q) * k + i;
                const Vector values = load(at) < 0 ? Vector{} : load(at);
                save(at, values);
                sums[q % 4] += values;
            }
            save(mean + s * k + i, (sums[0] + sums[1] + sums[2] + sums[3]) / static_cast<float>(p));
        }
}

// SGE's mask before its sigmoid, out (n, p, groups), of f = u weight + bias with weight (k, c). t = the sum of f mean(f)
// over a group's channels is the product of u and a projection (k, groups), plus a constant. Less the mean of t over p,
// divided by its deviation + 1e-5, times scale, plus shift. `mean` (n, k) is that of u.
extern "C" void similarity(
    float* out, const float* u, const float* mean, const float* weight, const float* bias, const float* scale,
    const float* shift, Size n, Size p, Size k, Size c, Size groups, int threads) {
    const Size size = c / groups;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> projection(k * LANES), t(p * LANES), y(LANES * size);
#pragma omp for collapse(2) schedule(static)
        for (Size s = 0; s < n; s++)
            for (Size first = 0; first < groups; first += LANES) {
                const Size width = std::min<Size>(LANES, groups - first), channel = first * size;
                std::copy_n(bias + channel, width * size, y.begin());
                for (Size i = 0; i < k; i++)
                    for (Size j = 0; j < width * size; j++) y[j] += mean[s * k + i] * weight[i * c + channel + j];
                Vector offset = {}, squares = {}, factor = {}, term = {};
                for (Size i = 0; i < k; i++) {
                    for (Size g = 0; g < width; g++) {
                        const float *a = &y[g * size], *b = weight + i * c + channel + g * size;
                        float sum = 0;
#pragma omp simd reduction(+ : sum)
                        for (Size j = 0; j < size; j++) sum += a[j] * b[j];
                        projection[i * LANES + g] = sum;
                    }
                    offset -= mean[s * k + i] * load(&projection[i * LANES]);
                }
                for (Size q = 0; q < p; q += ROWS)
                    product<1>(
                        &t[q * LANES], u + (s * p + q) * k, projection.data(), (const float*)&offset, k,
                        std::min<Size>(ROWS, p - q));
                for (Size q = 0; q < p; q++) squares += load(&t[q * LANES]) * load(&t[q * LANES]);
                for (Size g = 0; g < width; g++) {
                    if (p > 1) factor[g] = scale[first + g] / (std::sqrt(squares[g] / (p - 1)) + 1e-5f);
                    term[g] = shift[first + g];
                }
                for (Size q = 0; q < p; q++) {
                    const Vector values = load(&t[q * LANES]) * factor + term;
                    float* to = out + (s * p + q) * groups + first;
                    if (width == LANES || (groups < LANES && (p - q) * groups >= LANES))
                        save(to, values);  // what is too much belongs to the next rows, which follow
                    else
                        std::copy_n((const float*)&values, width, to);
                }
            }
    }
}
