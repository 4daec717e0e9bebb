// SPDX-License-Identifier: MIT
// Runs a fuzz target on files, for builds without libFuzzer: arguments are files or folders of files.
// Each input is given at its exact length on the heap, so that AddressSanitizer sees a read past it.
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 16 << 20 };

static int run_count;

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int run_bytes(FILE *file, size_t len)
{
    uint8_t *data = malloc(len == 0 ? 1 : len);
    if (data == NULL) {
        return -1;
    }
    int result = fread(data, 1, len, file) == len ? 0 : -1;
    if (result == 0) {
        LLVMFuzzerTestOneInput(data, len);
        run_count++;
    }
    free(data);
    return result;
}

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat st;
    if (file == NULL || fstat(fileno(file), &st) != 0 || st.st_size > INPUT_MAX ||
        run_bytes(file, (size_t)st.st_size) != 0) {
        fprintf(stderr, "%s: %s\n", path, errno == 0 ? "too long or cut" : strerror(errno));
        if (file != NULL) {
            fclose(file);
        }
        return -1;
    }
    fclose(file);
    return 0;
}

static int run_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        fprintf(stderr, "%s: %s\n", folder, strerror(errno));
        return -1;
    }
    int result = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char path[PATH_MAX];
        int len = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] == '.') {
            continue;
        }
        if (len < 0 || (size_t)len >= sizeof path || run_file(path) != 0) {
            result = -1;
        }
    }
    closedir(dir);
    return result;
}

int main(int argc, char **argv)
{
    int result = 0;
    for (int i = 1; i < argc; i++) {
        if ((is_folder(argv[i]) ? run_folder(argv[i]) : run_file(argv[i])) != 0) {
            result = 1;
        }
    }
    printf("%d inputs\n", run_count);
    if (run_count == 0) {
        fprintf(stderr, "%s: no seeds: nothing was tested\n", argv[0]);
        return 1;
    }
    return result;
}
