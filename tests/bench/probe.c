/*
 * The stopwatch of the benchmarks and the app that it watches, as one small static program: what is measured is the
 * supervisor, so the app must start faster than anything else on the machine. All times are CLOCK_MONOTONIC.
 *
 *   probe                            appends a stamp to $STAMPS when main starts, then waits to be killed: the app
 *   probe start ROUNDS CMD...        CMD runs `probe stamp`; prints the time from exec of CMD to the stamp, per round
 *   probe stamp                      writes a stamp to stdout and ends
 *   probe signal ROUNDS CMD...       CMD runs `probe echo`; prints the time from kill(CMD) to its handler, per round
 *   probe echo                       answers each SIGUSR1 by a stamp on stdout
 *   probe orphans COUNT              makes COUNT orphans; writes to $STAMPS the time from the last one's making until
 *                                    PID 1 has reaped all of them, and PID 1's CPU time; then waits to be killed
 *
 * A stamp is the time and the pid, in two 64-bit words: one write, so that stamps of many apps do not mix.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <time.h>
#include <unistd.h>

struct stamp {
	uint64_t ns;
	uint64_t pid;
};

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void put(int fd, uint64_t ns, uint64_t pid)
{
	struct stamp stamp = { ns, pid };
	if (write(fd, &stamp, sizeof stamp) != sizeof stamp)
		err(1, "write");
}

static struct stamp get(int fd)
{
	struct stamp stamp;
	ssize_t n;
	while ((n = read(fd, &stamp, sizeof stamp)) < 0 && errno == EINTR)
		;
	if (n != sizeof stamp)
		errx(1, "the command ended without a stamp");
	return stamp;
}

static int stamps(void)
{
	const char *path = getenv("STAMPS");
	int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
	if (fd < 0)
		err(1, "$STAMPS");
	return fd;
}

static _Noreturn void app(uint64_t started)
{
	put(stamps(), started, (uint64_t)getpid());
	for (;;)
		pause();
}

/* Starts the command with its stdout in a pipe. The time just before its exec is left in *began, shared memory. */
static pid_t launch(char **argv, int *out, volatile uint64_t *began)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC))
		err(1, "pipe");
	pid_t pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		dup2(ends[1], 1);
		*began = now();
		execv(argv[0], argv);
		err(127, "%s", argv[0]);
	}
	close(ends[1]);
	*out = ends[0];
	return pid;
}

static volatile uint64_t *shared(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		err(1, "mmap");
	return page;
}

static int start(int rounds, char **argv)
{
	volatile uint64_t *began = shared();
	while (rounds-- > 0) {
		int out, status;
		pid_t pid = launch(argv, &out, began);
		struct stamp stamp = get(out);
		close(out);
		if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status))
			errx(1, "%s: wait status %#x", argv[0], status);
		printf("%" PRIu64 "\n", stamp.ns - *began);
	}
	return 0;
}

static void answer(int sig)
{
	(void)sig;
	put(1, now(), (uint64_t)getpid());
}

static _Noreturn void echo(void)
{
	struct sigaction action = { .sa_handler = answer };
	sigaction(SIGUSR1, &action, NULL);
	put(1, now(), (uint64_t)getpid());
	for (;;)
		pause();
}

static int signals(int rounds, char **argv)
{
	int out;
	pid_t pid = launch(argv, &out, shared());
	get(out);
	while (rounds-- > 0) {
		uint64_t sent = now();
		if (kill(pid, SIGUSR1))
			err(1, "kill");
		printf("%" PRIu64 "\n", get(out).ns - sent);
		/* Let everybody go to sleep again: what is wanted is the way through an idle init. */
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	return 0;
}

/* CPU time of PID 1 in ns, the first word of its schedstat. */
static uint64_t cpu_of_init(void)
{
	uint64_t ns = 0;
	FILE *file = fopen("/proc/1/schedstat", "r");
	if (!file || fscanf(file, "%" SCNu64, &ns) != 1)
		ns = 0;
	if (file)
		fclose(file);
	return ns;
}

static _Noreturn void orphans(int count)
{
	pid_t *made = calloc((size_t)count, sizeof *made);
	int ends[2];
	if (!made || pipe2(ends, O_CLOEXEC))
		err(1, "orphans");
	uint64_t cpu = cpu_of_init();
	for (int i = 0; i < count; i++) {
		pid_t between = fork();
		if (between < 0)
			err(1, "fork");
		if (between == 0) {
			pid_t orphan = fork();
			if (orphan == 0)
				_exit(0);
			if (orphan < 0 || write(ends[1], &orphan, sizeof orphan) != sizeof orphan)
				_exit(1);
			_exit(0);
		}
		int status;
		waitpid(between, &status, 0);
		if (status || read(ends[0], &made[i], sizeof *made) != sizeof *made)
			errx(1, "orphan %d was not made: wait status %#x", i, status);
	}
	/* From here on only those are asked for that were still there: asking for all of them takes milliseconds. */
	uint64_t last = now(), took = 0, deadline = last + 10000000000u;
	int left = count, zombies = -1;
	while (left > 0 && now() < deadline) {
		int still = 0;
		for (int i = left; i-- > 0;)
			if (kill(made[i], 0) == 0) {
				took = now() - last;
				made[left - ++still] = made[i];
			}
		memmove(made, made + left - still, (size_t)still * sizeof *made);
		left = still;
		if (zombies < 0)
			zombies = left;
	}
	int fd = stamps();
	put(fd, took, (uint64_t)left);
	put(fd, cpu_of_init() - cpu, (uint64_t)zombies);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	uint64_t started = now();
	const char *mode = argc > 1 ? argv[1] : "";
	if (!strcmp(mode, "stamp"))
		return put(1, started, (uint64_t)getpid()), 0;
	if (!strcmp(mode, "echo"))
		echo();
	if (!strcmp(mode, "start") && argc > 3)
		return start(atoi(argv[2]), argv + 3);
	if (!strcmp(mode, "signal") && argc > 3)
		return signals(atoi(argv[2]), argv + 3);
	if (!strcmp(mode, "orphans") && argc > 2)
		orphans(atoi(argv[2]));
	app(started);
}
