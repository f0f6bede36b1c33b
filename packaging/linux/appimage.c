/* The program in front of an AppImage. It unpacks the file system behind it into the user's cache, once, and runs AppRun there. It
 * mounts nothing, so it needs neither FUSE nor rights, and works in containers; every start but the first is as fast as that of an
 * installed program. What is missing there is brought back, and what older versions left goes. Statically linked with libsquashfuse and
 * zstd; packaging/package.sh compiles it.
 *
 *   --appimage-extract   unpacks into ./squashfs-root
 *   --appimage-offset    says where the file system begins
 *   --appimage-help
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
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

static char *join(const char *format, ...) {
    char *text;
    va_list values;
    va_start(values, format);
    if (vasprintf(&text, format, values) < 0) exit(1);
    va_end(values);
    return text;
}

/* What went wrong so far: there may be another way, and if not, all of it is said. */
static char *wrong;
/* It is this file that is wrong, so that no other way helps. */
static bool damaged;

static void note(const char *doing, const char *what) {
    damaged = damaged || errno == 0;
    const char *why = errno ? strerror(errno) : "it is damaged";
    wrong = join("%sAppImage: %s: %s: %s\n", wrong ? wrong : "", doing, what, why);
}

static void give_up(const char *help) {
    fprintf(stderr, "%s%s", wrong, help);
    exit(1);
}

static void fail(const char *doing, const char *what) {
    note(doing, what);
    give_up("");
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

/* --- The files in the file system --- */

/* Something to do with a file, a folder or a link, and where that is or shall be; false if it did not go well. */
typedef bool act(sqfs *fs, sqfs_inode *inode, const char *path);

static bool for_each(const char *self, uint64_t offset, const char *to, act *do_it) {
    sqfs fs;
    sqfs_traverse walk;
    sqfs_err error = SQFS_OK;
    errno = 0;
    if (sqfs_open_image(&fs, self, offset) != SQFS_OK || sqfs_traverse_open(&walk, &fs, sqfs_inode_root(&fs)) != SQFS_OK) {
        note("reading", self);
        return false;
    }
    bool well = true;
    while (well && (errno = 0, sqfs_traverse_next(&walk, &error))) {
        if (walk.dir_end) continue;
        sqfs_inode inode;
        char *path = join("%s/%s", to, walk.path);
        if (sqfs_inode_get(&fs, &inode, sqfs_dentry_inode(&walk.entry)) != SQFS_OK) {
            error = SQFS_ERR;
            well = false;
        } else {
            well = do_it(&fs, &inode, path);
        }
        free(path);
    }
    if (error != SQFS_OK) note("reading", self);
    sqfs_traverse_close(&walk);
    sqfs_fd_close(fs.fd);
    sqfs_destroy(&fs);
    return well && error == SQFS_OK;
}

static bool write_file(sqfs *fs, sqfs_inode *inode, const char *to) {
    static char buffer[1 << 17];
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out < 0) return false;
    uint64_t size = inode->xtra.reg.file_size;
    bool well = true;
    for (uint64_t at = 0; well && at < size;) {
        sqfs_off_t piece = sizeof buffer;
        errno = 0;
        well = sqfs_read_range(fs, inode, (sqfs_off_t)at, &piece, buffer) == SQFS_OK && piece > 0;
        for (sqfs_off_t done = 0; well && done < piece;) {
            ssize_t wrote = write(out, buffer + done, (size_t)(piece - done));
            well = wrote >= 0;
            done += wrote;
        }
        at += (uint64_t)piece;
    }
    well = well && fchmod(out, inode->base.mode & 0755) == 0;
    int why = errno;
    bool closed = close(out) == 0;
    if (!well) errno = why;
    return well && closed;
}

static bool unpack(sqfs *fs, sqfs_inode *inode, const char *path) {
    char target[PATH_MAX];
    size_t size = sizeof target;
    bool well = true;
    switch (sqfs_mode(inode->base.inode_type)) {
        case S_IFDIR: well = mkdir(path, 0755) == 0; break;
        case S_IFREG: well = write_file(fs, inode, path); break;
        case S_IFLNK: well = sqfs_readlink(fs, inode, target, &size) == SQFS_OK && symlink(target, path) == 0; break;
        default: break; /* There is nothing else in it. */
    }
    if (!well) note("unpacking", path);
    return well;
}

/* Of its kind and its length: what is lost is lost by somebody tidying up, or a machine that went off. */
static bool is_there(sqfs *fs, sqfs_inode *inode, const char *path) {
    mode_t kind = (mode_t)sqfs_mode(inode->base.inode_type);
    struct stat about;
    (void)fs;
    return lstat(path, &about) == 0 && (about.st_mode & S_IFMT) == kind &&
           (kind != S_IFREG || (uint64_t)about.st_size == inode->xtra.reg.file_size);
}

/* --- The cache --- */

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *where) {
    (void)about, (void)kind, (void)where;
    remove(path);
    return 0;
}

static void remove_all(const char *folder) { nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT); }

/* Whether a program runs from it. (Other users' programs cannot be asked, and do not run from here.) */
static bool in_use(const char *folder) {
    char place[PATH_MAX], program[PATH_MAX];
    DIR *all = opendir("/proc");
    if (!all || !realpath(folder, place)) return true;
    size_t length = strlen(place);
    bool used = false;
    for (struct dirent *entry; !used && (entry = readdir(all));) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
        char *link = join("/proc/%s/exe", entry->d_name);
        ssize_t size = readlink(link, program, sizeof program);
        free(link);
        used = size > (ssize_t)length && memcmp(program, place, length) == 0 && program[length] == '/';
    }
    closedir(all);
    return used;
}

/* Takes out of the cache what a start that was broken off left, after a day, and versions that were not started for a week. */
static void tidy(const char *cache, const char *own) {
    const time_t day = 24 * 60 * 60;
    DIR *all = opendir(cache);
    if (!all) return;
    for (struct dirent *entry; (entry = readdir(all));) {
        size_t digits = strspn(entry->d_name, "0123456789abcdef"), length = strlen(entry->d_name);
        bool version = digits == 16 && length == 16;
        bool left = digits == 16 && length == 23 && entry->d_name[16] == '.';
        if (!version && !left) continue;
        char *path = join("%s/%s", cache, entry->d_name);
        struct stat about;
        if (strcmp(path, own) != 0 && lstat(path, &about) == 0 && S_ISDIR(about.st_mode) &&
            time(NULL) - about.st_mtime > (left ? day : 7 * day) && !in_use(path)) {
            remove_all(path);
        }
        free(path);
    }
    closedir(all);
}

/* Puts everything into `folder`, under another name until it is whole. What is there has lost something. */
static bool bring_anew(const char *self, uint64_t offset, const char *folder) {
    char *new = join("%s.XXXXXX", folder), *old = join("%s.XXXXXX", folder);
    bool well = mkdtemp(new);
    if (!well) {
        note("unpacking", new);
    } else if ((well = for_each(self, offset, new, unpack)) && rename(new, folder) != 0) {
        well = mkdtemp(old) && rename(folder, old) == 0 && rename(new, folder) == 0;
        if (!well) note("unpacking", folder);
        remove_all(old);
    }
    if (!well) remove_all(new);
    free(new);
    free(old);
    return well;
}

/* Sees to it that everything is in `folder` of `cache`. */
static bool bring(const char *self, uint64_t offset, const char *cache, const char *folder) {
    /* Started today, so it stays (see `tidy`). */
    utimensat(AT_FDCWD, folder, NULL, 0);
    if (for_each(self, offset, folder, is_there)) return true;
    if (damaged) return false;
    /* One start at a time: the others find it done. (Where there are no locks they get into each other's way, no more.) */
    int lock = open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock >= 0) flock(lock, LOCK_EX);
    bool well = for_each(self, offset, folder, is_there) || bring_anew(self, offset, folder);
    if (lock >= 0) close(lock);
    return well;
}

/* Whether things can be put into the folder `base`, which is made if need be. As root not into another user's: sudo may leave HOME as
 * it was, and that user could not use what root made there. */
static bool is_base(const char *base) {
    struct stat about;
    bool made = stat(base, &about) != 0;
    if (made) {
        char *copy = join("%s", base);
        bool parent = stat(dirname(copy), &about) == 0;
        free(copy);
        if (!parent) return false;
    }
    if (geteuid() == 0 && about.st_uid != 0) {
        errno = EPERM;
        return false;
    }
    return !made || mkdir(base, 0700) == 0 || errno == EEXIST;
}

/* A folder of the user's in `base` that nobody else can write into, and from which programs may run; NULL if there cannot be one. */
static char *cache_in(const char *base, const char *name) {
    char *folder = join("%s/%s", base, name);
    struct stat about;
    struct statvfs system;
    bool well = is_base(base) && (mkdir(folder, 0700) == 0 || errno == EEXIST) && lstat(folder, &about) == 0;
    if (well && (!S_ISDIR(about.st_mode) || about.st_uid != geteuid() || (about.st_mode & 022))) {
        errno = EPERM;
        well = false;
    }
    if (well && statvfs(folder, &system) == 0 && (system.f_flag & (ST_NOEXEC | ST_RDONLY))) {
        errno = system.f_flag & ST_RDONLY ? EROFS : EACCES;
        well = false;
    }
    if (well) return folder;
    note("finding a place to unpack to", folder);
    free(folder);
    return NULL;
}

/* A variable that names a folder in full; NULL if it does not. */
static const char *folder_of(const char *variable) {
    const char *value = getenv(variable);
    return value && value[0] == '/' && value[1] ? value : NULL;
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
        if (!for_each(self, offset, "squashfs-root", unpack)) give_up("");
        puts("squashfs-root");
        return 0;
    }
    if (strcmp(first, "--appimage-extract-and-run") == 0) {
        /* What it does anyway. */
        arguments[1] = arguments[0];
        arguments++;
    }

    unsigned long long name = name_of(bytes + offset, size - offset);
    munmap((void *)bytes, size);
    /* The user's cache; where that cannot be used, a folder among the temporary ones. */
    const char *home = folder_of("HOME");
    const char *bases[] = {folder_of("XDG_CACHE_HOME"), home ? join("%s/.cache", home) : NULL, folder_of("TMPDIR"), "/var/tmp", "/tmp"};
    char *shared = join("ocelli-appimage-%u", (unsigned)geteuid());
    for (size_t at = 0; at < sizeof bases / sizeof *bases; at++) {
        char *cache = bases[at] ? cache_in(bases[at], at < 2 ? "ocelli-appimage" : shared) : NULL;
        if (!cache) continue;
        char *folder = join("%s/%016llx", cache, name);
        if (!bring(self, offset, cache, folder)) {
            if (damaged) give_up("");
            continue;
        }
        tidy(cache, folder);
        setenv("APPIMAGE", self, 1);
        setenv("APPDIR", folder, 1);
        char *run = join("%s/AppRun", folder);
        arguments[0] = run;
        execv(run, arguments);
        /* (A policy may forbid it here and not elsewhere.) */
        bool forbidden = errno == EACCES || errno == EPERM;
        note("running", run);
        if (!forbidden) give_up("");
    }
    give_up("AppImage: there is no place to unpack to: set XDG_CACHE_HOME to a folder of yours.\n");
    return 1;
}
