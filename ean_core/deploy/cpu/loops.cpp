// What the end of a bottleneck needs and PyTorch has no single operation for: float32, on a CPU with AVX2 or AVX-512.
// Tensors are dense with the channels last: u (n, p, k) is the branch before its last 1x1 convolution, at p positions.

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

using Size = int64_t;

// A tile of sums, ROWS by WIDTH vectors, fills the registers that there are.
#ifdef __AVX512F__
constexpr int LANES = 16, ROWS = 14, WIDTH = 2;
using Indices = __m512i;
#define CHOOSE(values, indices) _mm512_permutexvar_ps(indices, values)
#define LOAD_FIRST(at, count) _mm512_maskz_loadu_ps((__mmask16)((1u << (count)) - 1), at)
#else
constexpr int LANES = 8, ROWS = 6, WIDTH = 2;
using Indices = __m256i;
#define CHOOSE(values, indices) _mm256_permutevar8x32_ps(values, indices)
#define LOAD_FIRST(at, count) \
    _mm256_maskload_ps(at, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)))
#endif
typedef float Vector __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

constexpr int COLUMNS = WIDTH * LANES;
constexpr Size CHUNK = 448;  // rows that one packed panel of weights serves

static inline Vector load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
static inline void save(float* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }

static inline Vector relu(Vector x) { return x < 0 ? Vector{} : x; }

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
#pragma GCC unroll 14
    for (int r = 0; r < height; r++)
#pragma GCC unroll 2
        for (int v = 0; v < width; v++) s[r][v] = load(bias + v * LANES);
    const float* next = u + height * k;  // the rows that follow are next to these, and come a little at a time
    for (Size i = 0; i < k; i++, panel += width * LANES, next += height) {
        __builtin_prefetch(next);
#pragma GCC unroll 14
        for (int r = 0; r < height; r++)
#pragma GCC unroll 2
            for (int v = 0; v < width; v++) s[r][v] += u[r * k + i] * load(panel + v * LANES);
    }
#pragma GCC unroll 14
    for (int r = 0; r < height; r++)
#pragma GCC unroll 2
        for (int v = 0; v < width; v++) save(sums + (r * width + v) * LANES, s[r][v]);
}

// The same for any number of rows.
template <int width>
static void product(float* sums, const float* u, const float* panel, const float* bias, Size rows, Size k) {
    Size r = 0;
    for (; r + ROWS <= rows; r += ROWS)
        tile<ROWS, width>(sums + r * width * LANES, u + r * k, panel, bias, k);
    for (; r + 4 <= rows; r += 4) tile<4, width>(sums + r * width * LANES, u + r * k, panel, bias, k);
    for (; r < rows; r++) tile<1, width>(sums + r * width * LANES, u + r * k, panel, bias, k);
}

// `width` vectors of columns of a matrix (k, c), side by side.
template <int width>
static void pack(float* panel, const float* weight, Size k, Size c) {
    for (Size i = 0; i < k; i++, weight += c, panel += width * LANES)
        for (int v = 0; v < width; v++) {
            __builtin_prefetch(weight + 16 * c + v * LANES);
            save(panel + v * LANES, load(weight + v * LANES));
        }
}

// What `expand` computes.
struct Expansion {
    float* out;
    const float *identity, *u, *weight, *bias, *mask;
    Size n, p, k, c, groups;

    // Rows from `start` to `end` of `width` vectors of columns, from `column` on.
    template <int width>
    void run(float* panel, Size column, Size start, Size end) const {
        float sums[ROWS * COLUMNS];
        pack<width>(panel, weight + column, k, c);
        Size group[width] = {};  // of each vector's first channel, and of the others counted from it
        alignas(Indices) int others[width][LANES] = {};
        for (int v = 0; groups && v < width; v++) {
            const Size first = column + v * LANES, size = c / groups;
            group[v] = first / size;
            for (int l = 0; l < LANES; l++) others[v][l] = (first + l) / size - group[v];
        }
        Size sample = start / p, next = (sample + 1) * p;  // where the next one begins
        for (; start < end; start += ROWS) {
            const Size count = std::min<Size>(ROWS, end - start);
            for (Size row = start; identity && row < start + count; row++)  // while its sums are computed
                for (int v = 0; v < width; v++) __builtin_prefetch(identity + row * c + column + v * LANES, 1);
            product<width>(sums, u + start * k, panel, bias + column, count, k);
            for (Size row = start; row < start + count; row++) {
                if (row == next) sample++, next += p;
                for (int v = 0; v < width; v++) {
                    const Size channel = column + v * LANES;
                    Vector f = load(sums + ((row - start) * width + v) * LANES);
                    if (groups) {
                        const int count = others[v][LANES - 1] + 1;
                        f *= CHOOSE(LOAD_FIRST(mask + row * groups + group[v], count), *(const Indices*)others[v]);
                    } else if (mask)
                        f *= load(mask + sample * c + channel);
                    if (identity) f += load(identity + row * c + channel);
                    save(out + row * c + channel, relu(f));
                }
            }
        }
    }
};

// out = relu(identity + mask * (u weight + bias)) with weight (k, c), c a multiple of LANES. identity may be nothing,
// or out itself. The mask is nothing, (n, c) if groups is 0, else (n, p, groups).
extern "C" void expand(
    float* out, const float* identity, const float* u, const float* weight, const float* bias, const float* mask,
    Size n, Size p, Size k, Size c, Size groups, int threads) {
    const Expansion expansion{out, identity, u, weight, bias, mask, n, p, k, c, groups};
    const Size rows = n * p, chunks = (rows + CHUNK - 1) / CHUNK;
    if (rows == 0) return;
    const Size size = ((rows + chunks - 1) / chunks + ROWS - 1) / ROWS * ROWS;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> panel(k * COLUMNS);
#pragma omp for collapse(2) schedule(static)
        for (Size chunk = 0; chunk < chunks; chunk++)
            for (Size column = 0; column < c; column += COLUMNS) {
                const Size start = chunk * size, end = std::min(start + size, rows);
                if (column + COLUMNS <= c)
                    expansion.run<WIDTH>(panel.data(), column, start, end);
                else
                    expansion.run<1>(panel.data(), column, start, end);
            }
    }
}

// out (n, c) = activation(x (n, k) weight + bias), by the threads that call it together. The weight is (c / 16, k, 16):
// a panel for every 16 columns.
template <typename Activation>
static void layer(
    float* out, const float* x, const float* weight, const float* bias, Size n, Size k, Size c, Activation activation) {
    std::vector<float> sums(n * 16);
#pragma omp for schedule(static)
    for (Size column = 0; column < c; column += 16) {
        product<16 / LANES>(sums.data(), x, weight + column * k, bias + column, n, k);
        for (Size s = 0; s < n; s++)
            for (Size l = 0; l < 16; l += LANES)
                save(out + s * c + column + l, activation(load(&sums[s * 16 + l])));
    }
}

// u = relu(u), mean (n, k) of that over its positions, and y (n, c) = mean weight + bias, the mean of the branch.
// k and c are multiples of LANES.
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
                            const Vector values = relu(load(at));
                            save(at, values);
                            sums[r] += values;
                        }
                save(mean + s * k + i, (sums[0] + sums[1] + sums[2] + sums[3]) / static_cast<float>(p));
            }
        std::vector<float> panel(k * LANES), sums(n * LANES);
#pragma omp for schedule(static)
        for (Size column = 0; column < c; column += LANES) {
            pack<1>(panel.data(), weight + column, k, c);
            product<1>(sums.data(), mean, panel.data(), bias + column, n, k);
            for (Size s = 0; s < n; s++) save(y + s * c + column, load(&sums[s * LANES]));
        }
    }
}

// u = relu(u), and the mean y (n, c) of the branch.
extern "C" void squeeze(
    float* y, float* u, const float* weight, const float* bias, Size n, Size p, Size k, Size c, int threads) {
    std::vector<float> mean(n * k);
    means(mean.data(), y, u, weight, bias, n, p, k, c, threads);
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
                product<1>(t.data(), u + s * p * k, projection.data(), (const float*)&offset, p, k);
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

// out (n, c) = sigmoid(relu(x first + bias1) second + bias2) with x (n, k), hidden units d and out (n, c).
extern "C" void perceptron(
    float* out, const float* x, const float* first, const float* bias1, const float* second, const float* bias2,
    Size n, Size k, Size d, Size c, int threads) {
    std::vector<float> hidden(n * d);
#pragma omp parallel num_threads(threads)
    {
        layer(hidden.data(), x, first, bias1, n, k, d, relu);
        layer(out, hidden.data(), second, bias2, n, d, c, sigmoid);
    }
}

// DIA's h and c, (n, c), from the c before and the sigmoids (n, 4 c) of its scores i, f, 2 g and o:
// c' = f c + i tanh(g), with tanh(g) = 2 sigmoid(2 g) - 1, and h' = o sigmoid(c').
extern "C" void remember(float* h, float* cell, const float* before, const float* gates, Size n, Size c, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (Size s = 0; s < n; s++)
        for (Size j = 0; j < c; j += LANES) {
            const float* at = gates + s * 4 * c + j;
            const Vector now = load(at + c) * load(before + s * c + j) + load(at) * (2 * load(at + 2 * c) - 1);
            save(cell + s * c + j, now);
            save(h + s * c + j, load(at + 3 * c) * sigmoid(now));
        }
}
