/* Fails one system call that changes a file below a folder: the n-th, counted over all threads of the process.
 *
 * A seccomp filter turns the calls of TRAPPED into SIGSYS, whoever makes them: Python, Arrow, SQLite, or Rust code that
 * does not go through libc. The handler counts those below the folder, makes the call itself, and fails the n-th. The
 * filter lets the handler's own calls pass by their address. Linux on x86-64 only.
 *
 * Loaded with LD_PRELOAD it also moves the clock by `soak_clock(seconds)`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>

enum fault { COUNT = 0, KILL = 1, FULL_DISK = 2, IO_ERROR = 3, TORN_WRITE = 4 };

static char folder[4096];
static size_t folder_length;
static int fault, report = -1;
static long wanted;
static atomic_long counted;

/* The only system call instruction that the filter lets pass. */
long soak_syscall(long number, long a, long b, long c, long d, long e, long f);
extern char soak_syscall_end[];
__asm__(".text\n.globl soak_syscall\nsoak_syscall:\n"
        "mov %rdi, %rax\nmov %rsi, %rdi\nmov %rdx, %rsi\nmov %rcx, %rdx\nmov %r8, %r10\nmov %r9, %r8\nmov 8(%rsp), %r9\n"
        "syscall\n.globl soak_syscall_end\nsoak_syscall_end:\nret\n");

static const int TRAPPED[] = {SYS_write,  SYS_pwrite64,  SYS_writev,  SYS_pwritev, SYS_fsync,    SYS_fdatasync, SYS_ftruncate,
                              SYS_rename, SYS_renameat,  SYS_renameat2, SYS_link,    SYS_linkat,   SYS_unlink,    SYS_unlinkat};
#define TRAPPED_CALLS (sizeof TRAPPED / sizeof *TRAPPED)

static int is_write(long number)
{
    return number == SYS_write || number == SYS_pwrite64 || number == SYS_writev || number == SYS_pwritev;
}

/* The path that a call changes; returns its length, 0 if it is not below the folder. */
static long path_of(long number, const long *arguments, char *path, size_t size)
{
    const char *named = NULL;
    long descriptor = -1;
    switch (number) {
    case SYS_rename: case SYS_link: named = (const char *)arguments[1]; break;
    case SYS_renameat: case SYS_renameat2: case SYS_linkat: named = (const char *)arguments[3]; descriptor = arguments[2]; break;
    case SYS_unlink: named = (const char *)arguments[0]; break;
    case SYS_unlinkat: named = (const char *)arguments[1]; descriptor = arguments[0]; break;
    default: descriptor = arguments[0];
    }
    long length = 0;
    if (!named || (named[0] != '/' && (int)descriptor != AT_FDCWD && descriptor >= 0)) {
        char link[32] = "/proc/self/fd/";
        char digits[12];
        int place = 0, end = 14;
        unsigned long rest = (unsigned long)descriptor;
        do { digits[place++] = (char)('0' + rest % 10); rest /= 10; } while (rest);
        while (place) link[end++] = digits[--place];
        link[end] = 0;
        length = soak_syscall(SYS_readlinkat, AT_FDCWD, (long)link, (long)path, (long)size - 1, 0, 0);
        if (length < 0) return 0;
        if (named) path[length++] = '/';
    }
    if (named) {
        size_t more = strnlen(named, size - 1 - (size_t)length);
        memcpy(path + length, named, more);
        length += (long)more;
    }
    path[length] = 0;
    /* a relative name starts from the project's folder, and counts; pipes and sockets have no path */
    int relative = named && path[0] != '/';
    return relative || (strncmp(path, folder, folder_length) == 0 && path[folder_length] == '/') ? length : 0;
}

static void die(void)
{
    soak_syscall(SYS_kill, soak_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0, 0);
}

static long make(long number, const long *a)
{
    return soak_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Tell the parent which call fails: its number and its path. */
static void tell(long number, const char *path, long length)
{
    long record[2] = {number, length};
    soak_syscall(SYS_write, report, (long)record, sizeof record, 0, 0, 0);
    soak_syscall(SYS_write, report, (long)path, length, 0, 0, 0);
}

static long fail(long number, const long *arguments)
{
    if (fault == TORN_WRITE && is_write(number)) {
        long half[6];
        memcpy(half, arguments, sizeof half);
        if (number == SYS_writev || number == SYS_pwritev) half[2] = (half[2] + 1) / 2;
        else half[2] = half[2] / 2;
        make(number, half);
        die();
    }
    if (fault == KILL || fault == TORN_WRITE) die();
    return fault == FULL_DISK ? -ENOSPC : -EIO;
}

static void on_call(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    long number = info->si_syscall;
    long arguments[6] = {registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                         registers[REG_R10], registers[REG_R8],  registers[REG_R9]};
    char path[4096];
    long length = path_of(number, arguments, path, sizeof path), result;
    int failed = 0;
    if (length > 0) {
        long place = atomic_fetch_add(&counted, 1) + 1;
        if (fault != COUNT && place == wanted) {
            tell(number, path, length);
            failed = 1;
        }
        /* a full disk stays full, for whatever needs space */
        if (fault == FULL_DISK && place > wanted && is_write(number)) failed = 1;
    }
    result = failed ? fail(number, arguments) : make(number, arguments);
    registers[REG_RAX] = result;
}

/* Count, or fail call `place`, below `path`; the failing call is written to the descriptor `to`. Returns 0, or an errno. */
int soak_arm(const char *path, int kind, long place, int to)
{
    strncpy(folder, path, sizeof folder - 1);
    folder_length = strlen(folder);
    fault = kind;
    wanted = place;
    report = to;
    atomic_store(&counted, 0);
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    if (sigaction(SIGSYS, &action, NULL)) return errno;

    uint64_t allowed = (uint64_t)(uintptr_t)soak_syscall_end;
    struct sock_filter filter[8 + TRAPPED_CALLS];
    size_t size = 0;
    /* 1. the handler's own calls pass */
    filter[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer));
    filter[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed, 0, 3);
    filter[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4);
    filter[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(allowed >> 32), 0, 1);
    filter[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    /* 2. of the others those of TRAPPED are trapped */
    filter[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < TRAPPED_CALLS; i++)
        filter[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)TRAPPED[i], (uint8_t)(TRAPPED_CALLS - i), 0);
    filter[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    struct sock_fprog program = {.len = (unsigned short)size, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return errno;
    long failed = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    return failed ? (failed > 0 ? ESRCH : errno) : 0;
}

long soak_counted(void) { return atomic_load(&counted); }

/* The clock of the process, moved. */
static _Atomic long shift;

void soak_clock(long seconds) { atomic_store(&shift, seconds); }

int clock_gettime(clockid_t clock, struct timespec *at)
{
    long failed = soak_syscall(SYS_clock_gettime, clock, (long)at, 0, 0, 0, 0);
    if (failed) {
        errno = (int)-failed;
        return -1;
    }
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) at->tv_sec += atomic_load(&shift);
    return 0;
}
