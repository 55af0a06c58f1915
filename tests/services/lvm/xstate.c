/* Lets user-mode Linux 6.1 run on processors with AMX: preloaded into it, see ./install.
 *
 * It sets a process's floating point registers from a buffer of fixed size, which the kernel refuses (EFAULT) where the
 * processor has more state than that. What the buffer lacks is taken from the registers as they are.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char whole[1 << 16]; /* not on the stack: that of user-mode Linux is small; it has one thread that traces */

long ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    long pid = va_arg(arguments, long);
    long address = va_arg(arguments, long);
    void *data = va_arg(arguments, void *);
    va_end(arguments);

    long word;
    int peek = request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER;
    long result = syscall(SYS_ptrace, request, pid, address, peek ? (void *)&word : data);
    if (peek)
        return result < 0 ? result : (errno = 0, word);
    if (result == 0 || errno != EFAULT || request != PTRACE_SETREGSET || address != NT_X86_XSTATE)
        return result;

    struct iovec *given = data;
    struct iovec all = {whole, sizeof whole};
    if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, address, &all) < 0)
        return -1;
    memcpy(whole, given->iov_base, given->iov_len < all.iov_len ? given->iov_len : all.iov_len);
    return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, address, &all);
}
