/* Lets a program that uses io_uring run under valgrind, which takes io_uring_enter(2) for a call that returns at once, and so has
 * every other thread wait while one waits in it. Preloaded, this waits for completions in poll(2) instead.
 *
 *   cc -shared -fPIC -o ring_poll.so ring_poll.c -ldl && LD_PRELOAD=./ring_poll.so valgrind ...
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

typedef long (*call)(long, ...);

static const struct timespec *patience(unsigned flags, const void *argument)
{
    if (!(flags & IORING_ENTER_EXT_ARG) || argument == NULL)
        return NULL;
    return (const struct timespec *)(uintptr_t)((const struct io_uring_getevents_arg *)argument)->ts;
}

long syscall(long number, ...)
{
    static call real;
    long argument[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        argument[i] = va_arg(list, long);
    va_end(list);
    if (real == NULL)
        real = (call)dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_io_uring_setup) /* or poll(2) is not told of what waits for this thread */
        ((struct io_uring_params *)argument[1])->flags &= ~(unsigned)IORING_SETUP_DEFER_TASKRUN;
    if (number != SYS_io_uring_enter || argument[2] == 0 || !(argument[3] & IORING_ENTER_GETEVENTS))
        return real(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
    /* Submits, and runs what the kernel left for this thread to do. */
    long submitted = real(number, argument[0], argument[1], 0, argument[3], argument[4], argument[5]);
    if (submitted < 0)
        return submitted;
    struct pollfd ring = {.fd = (int)argument[0], .events = POLLIN};
    ppoll(&ring, 1, patience((unsigned)argument[3], (const void *)argument[4]), NULL);
    real(number, argument[0], 0, 0, argument[3], argument[4], argument[5]);
    return submitted;
}
