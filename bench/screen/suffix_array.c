// A plain suffix array beside `retort screen`: libdivsufsort over the bytes of a text, and for every word of another the
// longest match by binary search. Built by bench/screen/run.sh; prints both rates.
#include <ctype.h>
#include <divsufsort.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Lower-case letters and digits, one space between words: what the search is insensitive to.
static unsigned char* load(const char* name, long* size) {
    FILE* file = fopen(name, "rb");
    if (file == NULL) { perror(name); exit(1); }
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    rewind(file);
    unsigned char* raw = malloc((size_t)bytes);
    if (fread(raw, 1, (size_t)bytes, file) != (size_t)bytes) { perror(name); exit(1); }
    fclose(file);
    long out = 0;
    for (long i = 0; i < bytes; ++i) {
        if (raw[i] >= 0x80 || isalnum(raw[i])) raw[out++] = (unsigned char)tolower(raw[i]);
        else if (raw[i] != '\'' && out > 0 && raw[out - 1] != ' ') raw[out++] = ' ';
    }
    *size = out;
    return raw;
}

static long common(const unsigned char* a, long most_a, const unsigned char* b, long most_b) {
    long most = most_a < most_b ? most_a : most_b, i = 0;
    while (i < most && a[i] == b[i]) ++i;
    return i;
}

int main(int argc, char** argv) {
    if (argc != 3) { fprintf(stderr, "suffix_array WORKS.txt TEXT.txt\n"); return 2; }
    long n = 0, m = 0;
    unsigned char* works = load(argv[1], &n);
    unsigned char* text = load(argv[2], &m);
    int* order = malloc(sizeof(int) * (size_t)n);
    double start = now();
    if (divsufsort(works, order, (int)n) != 0) return 1;
    double built = now() - start;
    printf("build: %.1f MB in %.1f s, %.2f MB/s, %.1f bytes of memory a byte\n", 1e-6 * (double)n, built, 1e-6 * (double)n / built, 5.0);
    start = now();
    long spans = 0, words = 0;
    for (long at = 0; at < m;) {
        ++words;
        long low = 0, high = n;
        while (low < high) {
            long middle = low + (high - low) / 2, place = order[middle];
            long same = common(works + place, n - place, text + at, m - at);
            if (same < m - at && (same == n - place || works[place + same] < text[at + same])) low = middle + 1;
            else high = middle;
        }
        long best = 0;
        for (long i = low > 0 ? low - 1 : 0; i < n && i <= low; ++i) {
            long same = common(works + order[i], n - order[i], text + at, m - at);
            if (same > best) best = same;
        }
        if (best >= 150) ++spans;
        while (at < m && text[at] != ' ') ++at;
        ++at;
        if (words % 65536 == 0 && now() - start > 10) { m = at; break; }
    }
    double searched = now() - start;
    printf("search: %.1f MB in %.1f s, %.2f MB/s; %ld of %ld words begin a match of 150 characters\n", 1e-6 * (double)m, searched,
           1e-6 * (double)m / searched, spans, words);
    return 0;
}
