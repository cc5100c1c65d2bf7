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

// 1 / (1 + exp(-x)), with exp(z) = 2^n exp(f) for an integer n and |f| < 0.35, where a few terms of the series do.
static inline Vector sigmoid(Vector x) {
    typedef int Integers __attribute__((vector_size(LANES * sizeof(int))));
    constexpr float shift = 12582912;  // 1.5 * 2^23: what is added to it is rounded into its last bits
    Vector z = -x;
    z = z > 87 ? Vector{} + 87 : z;
    z = z < -87 ? Vector{} - 87 : z;
    const Vector rounded = z * 1.44269504f + shift, n = rounded - shift;
    const Vector f = z - n * 0.693359375f + n * 2.12194440e-4f;
    Vector series = f / 720 + 1.f / 120;
    series = series * f + 1.f / 24;
    series = series * f + 1.f / 6;
    series = series * f + 0.5f;
    series = series * f + 1;
    series = series * f + 1;
    const Integers exponent = ((Integers)rounded + 127) << 23;
    return 1 / (1 + series * (Vector)exponent);
}

static inline float dot(const float* a, const float* b, Size size) {
    typedef float Quad __attribute__((vector_size(4 * sizeof(float)), aligned(sizeof(float)), may_alias));
    Vector products = {};
    Quad sums = {};
    Size i = 0;
    for (; i + LANES <= size; i += LANES) products += load(a + i) * load(b + i);
    for (int l = 0; l < LANES; l += 4) sums += *reinterpret_cast<const Quad*>((const float*)&products + l);
    float sum = sums[0] + sums[1] + sums[2] + sums[3];
    for (; i < size; i++) sum += a[i] * b[i];
    return sum;
}

// `height` rows of u times a panel (k, width * LANES), plus a bias: sums (height, width * LANES).
// Not inlined, for its loop needs all the registers there are.
template <int height, int width>
__attribute__((noinline)) static void tile(
    float* sums, const float* u, const float* panel, const float* bias, Size k) {
    Vector s[height][width];
#pragma GCC unroll 12
    for (int r = 0; r < height; r++)
#pragma GCC unroll 2
        for (int v = 0; v < width; v++) s[r][v] = load(bias + v * LANES);
    for (Size i = 0; i < k; i++, panel += width * LANES)
#pragma GCC unroll 12
        for (int r = 0; r < height; r++)
#pragma GCC unroll 2
            for (int v = 0; v < width; v++) s[r][v] += u[r * k + i] * load(panel + v * LANES);
#pragma GCC unroll 12
    for (int r = 0; r < height; r++)
#pragma GCC unroll 2
        for (int v = 0; v < width; v++) save(sums + (r * width + v) * LANES, s[r][v]);
}

// The same for any number of rows.
template <int width>
static void product(float* sums, const float* u, const float* panel, const float* bias, Size k, Size rows) {
    constexpr int height = ROWS * WIDTH / width;
    Size r = 0;
    for (; r + height <= rows; r += height) tile<height, width>(sums + r * width * LANES, u + r * k, panel, bias, k);
    for (; r + 2 <= rows; r += 2) tile<2, width>(sums + r * width * LANES, u + r * k, panel, bias, k);
    if (r < rows) tile<1, width>(sums + r * width * LANES, u + r * k, panel, bias, k);
}

// COLUMNS columns of a matrix (k, c), side by side.
static void pack(float* panel, const float* weight, Size k, Size c, Size column) {
    for (Size i = 0; i < k; i++) std::copy_n(weight + i * c + column, COLUMNS, panel + i * COLUMNS);
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
                pack(panel.data(), weight, k, c, column);
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

// u = relu(u), mean (n, k) of that over its positions, and y (n, c) = mean weight + bias, the mean of the branch.
// k is a multiple of LANES, c of COLUMNS.
static void means(
    float* mean, float* y, float* u, const float* weight, const float* bias, Size n, Size p, Size k, Size c,
    int threads) {
#pragma omp parallel num_threads(threads)
    {
#pragma omp for collapse(2) schedule(static)
        for (Size s = 0; s < n; s++)
            for (Size i = 0; i < k; i += LANES) {
                Vector sums[4] = {};  // several, for one would wait for itself
                for (Size q = 0; q < p; q += 4)
#pragma GCC unroll 4
                    for (int r = 0; r < 4; r++)
                        if (q + r < p) {
                            float* at = u + (s * p + q + r) * k + i;
                            const Vector values = load(at) < 0 ? Vector{} : load(at);
                            save(at, values);
                            sums[r] += values;
                        }
                save(mean + s * k + i, (sums[0] + sums[1] + sums[2] + sums[3]) / static_cast<float>(p));
            }
        std::vector<float> panel(k * COLUMNS);
        float sums[ROWS * COLUMNS];
#pragma omp for schedule(static)
        for (Size column = 0; column < c; column += COLUMNS) {
            pack(panel.data(), weight, k, c, column);
            for (Size start = 0; start < n; start += ROWS) {
                const Size count = std::min<Size>(ROWS, n - start);
                product<WIDTH>(sums, mean + start * k, panel.data(), bias + column, k, count);
                for (Size r = 0; r < count; r++)
                    std::copy_n(sums + r * COLUMNS, COLUMNS, y + (start + r) * c + column);
            }
        }
    }
}

// u = relu(u), and the mean y (n, c) of the branch.
extern "C" void squeeze(
    float* y, float* u, const float* weight, const float* bias, Size n, Size p, Size k, Size c, int threads) {
    std::vector<float> mean(n * k);
    means(mean.data(), y, u, weight, bias, n, p, k, c, threads);
}

// u = relu(u), and SE's mask (n, c) of the branch, whose mean is y: sigmoid(second relu(first y + bias1) + bias2), with
// first (d, c), and second (d, c) for its transpose.
extern "C" void excite(
    float* mask, float* u, const float* weight, const float* bias, const float* first, const float* bias1,
    const float* second, const float* bias2, Size n, Size p, Size k, Size c, Size d, int threads) {
    std::vector<float> mean(n * k), y(n * c);
    means(mean.data(), y.data(), u, weight, bias, n, p, k, c, threads);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> hidden(d);
#pragma omp for schedule(static)
        for (Size s = 0; s < n; s++) {
            for (Size i = 0; i < d; i++) hidden[i] = std::max(bias1[i] + dot(first + i * c, &y[s * c], c), 0.f);
            for (Size j = 0; j < c; j += LANES) {
                Vector score = load(bias2 + j);
                for (Size i = 0; i < d; i++) score += hidden[i] * load(second + i * c + j);
                save(mask + s * c + j, sigmoid(score));
            }
        }
    }
}

// DIA's cell: h, c (n, c) from the state cell (n, c) before and gates (n, 4c), i, f, g, o, in two parts to be added.
extern "C" void remember(
    float* h, float* cell, const float* before, const float* inputs, const float* hidden, Size n, Size c, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (Size s = 0; s < n; s++)
        for (Size j = 0; j < c; j += LANES) {
            Vector gate[4];
            for (int g = 0; g < 4; g++) {
                const Size at = (s * 4 + g) * c + j;
                gate[g] = load(inputs + at) + load(hidden + at);
                gate[g] = g == 2 ? 2 * sigmoid(2 * gate[g]) - 1 : sigmoid(gate[g]);  // tanh(x) = 2 sigmoid(2x) - 1
            }
            const Vector now = gate[1] * load(before + s * c + j) + gate[0] * gate[2];
            save(cell + s * c + j, now);
            save(h + s * c + j, gate[3] * sigmoid(now));
        }
}

// u = relu(u), and SGE's mask, out (n, p, groups), of the branch f. t = the sum of f mean(f) over a group's channels is
// the product of u and a projection (k, groups), plus a constant. Less the mean of t over p, divided by its deviation
// + 1e-5, times scale, plus shift, through a sigmoid.
extern "C" void similarity(
    float* out, float* u, const float* weight, const float* bias, const float* scale, const float* shift, Size n,
    Size p, Size k, Size c, Size groups, int threads) {
    std::vector<float> mean(n * k), y(n * c);
    means(mean.data(), y.data(), u, weight, bias, n, p, k, c, threads);
    const Size size = c / groups;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> projection(k * LANES), t(p * LANES);
#pragma omp for collapse(2) schedule(static)
        for (Size s = 0; s < n; s++)
            for (Size first = 0; first < groups; first += LANES) {
                const Size width = std::min<Size>(LANES, groups - first);
                Vector offset = {}, squares = {}, factor = {}, term = {};
                for (Size i = 0; i < k; i++) {
                    for (Size g = 0; g < width; g++)
                        projection[i * LANES + g] =
                            dot(&y[s * c + (first + g) * size], weight + i * c + (first + g) * size, size);
                    offset -= mean[s * k + i] * load(&projection[i * LANES]);
                }
                product<1>(t.data(), u + s * p * k, projection.data(), (const float*)&offset, k, p);
                for (Size q = 0; q < p; q++) squares += load(&t[q * LANES]) * load(&t[q * LANES]);
                for (Size g = 0; g < width; g++) {
                    if (p > 1) factor[g] = scale[first + g] / (std::sqrt(squares[g] / (p - 1)) + 1e-5f);
                    term[g] = shift[first + g];
                }
                float* to = out + s * p * groups + first;
                if (width == LANES) {
                    for (Size q = 0; q < p; q++)
                        save(to + q * groups, sigmoid(load(&t[q * LANES]) * factor + term));
                } else {
                    for (Size q = 0; q < p; q++)  // side by side: what is too much belongs to the rows that follow
                        save(&t[q * width], load(&t[q * LANES]) * factor + term);
                    for (Size i = 0; i < p * width; i += LANES) save(&t[i], sigmoid(load(&t[i])));
                    if (width == groups)
                        std::copy_n(t.data(), p * width, to);
                    else
                        for (Size q = 0; q < p; q++) std::copy_n(&t[q * width], width, to + q * groups);
                }
            }
    }
}
