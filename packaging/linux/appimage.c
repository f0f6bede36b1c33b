/* The program in front of an AppImage. It unpacks the file system behind it into the user's cache, once, and runs AppRun there. It
 * mounts nothing, so it needs neither FUSE nor rights, and works in containers; every start but the first is as fast as that of an
 * installed program. Statically linked with libsquashfuse and zstd; packaging/package.sh compiles it.
 *
 *   --appimage-extract   unpacks into ./squashfs-root
 *   --appimage-offset    says where the file system begins
 *   --appimage-help
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <squashfuse/squashfuse.h>
#include <squashfuse/util.h>

/* The other compressions that libsquashfuse can read: package.sh packs with zstd, and lzo's licence (GPL) would be the whole
 * program's. They refuse. */
int lzo1x_decompress_safe(const void *from, size_t size, void *to, size_t *room, void *memory);
int lzo1x_decompress_safe(const void *from, size_t size, void *to, size_t *room, void *memory) {
    (void)from, (void)size, (void)to, (void)room, (void)memory;
    return -1;
}
int LZ4_decompress_safe(const char *from, char *to, int size, int room);
int LZ4_decompress_safe(const char *from, char *to, int size, int room) {
    (void)from, (void)to, (void)size, (void)room;
    return -1;
}
int lzma_stream_buffer_decode(void *limit, unsigned flags, void *memory, const void *from, size_t *at, size_t size, void *to, size_t *out, size_t room);
int lzma_stream_buffer_decode(void *limit, unsigned flags, void *memory, const void *from, size_t *at, size_t size, void *to, size_t *out, size_t room) {
    (void)limit, (void)flags, (void)memory, (void)from, (void)at, (void)size, (void)to, (void)out, (void)room;
    return 11; /* LZMA_PROG_ERROR */
}
int uncompress(void *to, unsigned long *room, const void *from, unsigned long size);
int uncompress(void *to, unsigned long *room, const void *from, unsigned long size) {
    (void)to, (void)room, (void)from, (void)size;
    return -2; /* Z_STREAM_ERROR */
}

static void fail(const char *doing, const char *what) {
    fprintf(stderr, "AppImage: %s: %s: %s\n", doing, what, errno ? strerror(errno) : "it is damaged");
    exit(1);
}

static char *join(const char *format, ...) {
    char *text;
    va_list values;
    va_start(values, format);
    if (vasprintf(&text, format, values) < 0) exit(1);
    va_end(values);
    return text;
}

/* Where this program ends: its table of sections comes last. */
static uint64_t own_size(const unsigned char *file, size_t size) {
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)file;
    if (size < sizeof *head) return 0;
    return head->e_shoff + (uint64_t)head->e_shentsize * head->e_shnum;
}

/* FNV-1a, eight bytes at a time: a name for the content, no protection of it. */
static uint64_t name_of(const unsigned char *from, size_t size) {
    uint64_t hash = 0xcbf29ce484222325u, word;
    for (size_t at = 0; at < size; at += sizeof word) {
        word = 0;
        memcpy(&word, from + at, size - at < sizeof word ? size - at : sizeof word);
        hash = (hash ^ word) * 0x100000001b3u;
        hash ^= hash >> 29;
    }
    return hash;
}

static void write_file(sqfs *fs, sqfs_inode *inode, const char *to) {
    static char buffer[1 << 17];
    const char *doing = "unpacking";
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out < 0) fail(doing, to);
    uint64_t size = inode->xtra.reg.file_size;
    for (uint64_t at = 0; at < size;) {
        sqfs_off_t piece = sizeof buffer;
        errno = 0;
        if (sqfs_read_range(fs, inode, (sqfs_off_t)at, &piece, buffer) != SQFS_OK || piece <= 0) fail(doing, to);
        for (sqfs_off_t done = 0; done < piece;) {
            ssize_t wrote = write(out, buffer + done, (size_t)(piece - done));
            if (wrote < 0) fail(doing, to);
            done += wrote;
        }
        at += (uint64_t)piece;
    }
    if (fchmod(out, inode->base.mode & 0755) != 0 || close(out) != 0) fail(doing, to);
}

/* Unpacks everything into the folder `to`, which is there and empty. */
static void unpack(const char *self, uint64_t offset, const char *to) {
    const char *doing = "unpacking";
    sqfs fs;
    sqfs_traverse walk;
    sqfs_err error = SQFS_OK;
    errno = 0;
    if (sqfs_open_image(&fs, self, offset) != SQFS_OK) fail("reading", self);
    if (sqfs_traverse_open(&walk, &fs, sqfs_inode_root(&fs)) != SQFS_OK) fail("reading", self);
    while (sqfs_traverse_next(&walk, &error)) {
        if (walk.dir_end) continue;
        sqfs_inode inode;
        errno = 0;
        if (sqfs_inode_get(&fs, &inode, sqfs_dentry_inode(&walk.entry)) != SQFS_OK) fail("reading", walk.path);
        char *path = join("%s/%s", to, walk.path);
        switch (sqfs_mode(inode.base.inode_type)) {
            case S_IFDIR:
                if (mkdir(path, 0755) != 0) fail(doing, path);
                break;
            case S_IFREG: write_file(&fs, &inode, path); break;
            case S_IFLNK: {
                char target[PATH_MAX];
                size_t size = sizeof target;
                if (sqfs_readlink(&fs, &inode, target, &size) != SQFS_OK || symlink(target, path) != 0) fail(doing, path);
                break;
            }
            default: break; /* There is nothing else in it. */
        }
        free(path);
    }
    if (error != SQFS_OK) fail("reading", self);
    sqfs_traverse_close(&walk);
}

/* A folder of the user's that nobody else can write into. */
static char *cache_folder(void) {
    const char *doing = "finding a place to unpack to";
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *folder;
    if (cache && cache[0] == '/') {
        mkdir(cache, 0700);
        folder = join("%s/ocelli-appimage", cache);
    } else if (home && home[0] == '/' && home[1]) {
        char *usual = join("%s/.cache", home);
        mkdir(usual, 0700);
        folder = join("%s/ocelli-appimage", usual);
        free(usual);
    } else {
        folder = join("/tmp/ocelli-appimage-%u", (unsigned)geteuid());
    }
    struct stat about;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) fail(doing, folder);
    if (lstat(folder, &about) != 0) fail(doing, folder);
    if (!S_ISDIR(about.st_mode) || about.st_uid != geteuid() || (about.st_mode & 022)) {
        errno = EPERM;
        fail(doing, folder);
    }
    return folder;
}

int main(int count, char **arguments) {
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0) fail("finding", "itself (is /proc there?)");
    self[length] = 0;
    int file = open(self, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (file < 0 || fstat(file, &about) != 0) fail("reading", self);
    size_t size = (size_t)about.st_size;
    const unsigned char *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
    if (bytes == MAP_FAILED) fail("reading", self);
    uint64_t offset = own_size(bytes, size);
    const char *first = count > 1 ? arguments[1] : "";
    errno = 0;
    if (offset == 0 || offset > size) fail("reading", self);

    if (strcmp(first, "--appimage-offset") == 0) {
        printf("%llu\n", (unsigned long long)offset);
        return 0;
    }
    if (strcmp(first, "--appimage-help") == 0) {
        puts("--appimage-extract   unpacks into ./squashfs-root\n--appimage-offset    says where the file system begins\n"
             "Without these it unpacks into the cache, once, and runs what is in it.");
        return 0;
    }
    if (offset == size) fail("looking for what is behind the program", self);
    if (strcmp(first, "--appimage-extract") == 0) {
        if (mkdir("squashfs-root", 0755) != 0) fail("unpacking", "squashfs-root");
        unpack(self, offset, "squashfs-root");
        puts("squashfs-root");
        return 0;
    }
    if (strcmp(first, "--appimage-extract-and-run") == 0) {
        /* What it does anyway. */
        arguments[1] = arguments[0];
        arguments++;
    }

    char *cache = cache_folder();
    char *folder = join("%s/%016llx", cache, (unsigned long long)name_of(bytes + offset, size - offset));
    if (access(folder, F_OK) != 0) {
        /* Under another name until it is whole; whoever else does the same at this moment brings the same. */
        char *new = join("%s.XXXXXX", folder);
        if (!mkdtemp(new)) fail("unpacking", new);
        unpack(self, offset, new);
        if (rename(new, folder) != 0 && errno != EEXIST && errno != ENOTEMPTY) fail("unpacking", folder);
    }
    munmap((void *)bytes, size);
    setenv("APPIMAGE", self, 1);
    setenv("APPDIR", folder, 1);
    char *run = join("%s/AppRun", folder);
    arguments[0] = run;
    execv(run, arguments);
    fail("running", run);
    return 1;
}
