// launch OUT SECONDS [--cpu N] [--data BYTES] [NAME=VALUE...] -- PROGRAM [ARGUMENT...]
//
// Runs a program with an environment of its own, within a time and a limit on data, on one CPU if asked, and writes to OUT what it used:
// how it ended, wall and CPU time, page faults, peak resident memory of it and its children. It is small, and starts the program itself:
// what the kernel says of the peak would else include that of the caller.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t timed_out;
static pid_t child;

static void out_of_time(int number) {
  (void)number;
  timed_out = 1;
  kill(-child, SIGKILL);
}

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

static void fail(const char* what) {
  fprintf(stderr, "launch: %s: %s\n", what, strerror(errno));
  exit(2);
}

static void become(int cpu, unsigned long long data, char** settings, char** command) {
  setpgid(0, 0);
  if (cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) fail("sched_setaffinity");
  }
  const struct rlimit no_core = {0, 0}, limit = {data, data};
  setrlimit(RLIMIT_CORE, &no_core);
  if (data != 0 && setrlimit(RLIMIT_DATA, &limit) != 0) fail("setrlimit");
  for (; *settings != command[-1]; ++settings) putenv(*settings);
  execvp(command[0], command);
  fprintf(stderr, "launch: %s: %s\n", command[0], strerror(errno));
  _exit(127);
}

int main(int argc, char** argv) {
  int cpu = -1, at = 3;
  unsigned long long data = 0;
  for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0 && argv[at][2] != 0; at += 2) {
    if (strcmp(argv[at], "--cpu") == 0) cpu = (int)strtol(argv[at + 1], NULL, 10);
    if (strcmp(argv[at], "--data") == 0) data = strtoull(argv[at + 1], NULL, 10);
  }
  char** const settings = argv + at;
  while (at < argc && strcmp(argv[at], "--") != 0) ++at;
  if (argc < 5 || at + 1 >= argc) {
    fprintf(stderr, "usage: launch OUT SECONDS [--cpu N] [--data BYTES] [NAME=VALUE...] -- PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  FILE* const out = fopen(argv[1], "w");
  if (out == NULL) fail(argv[1]);
  struct timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  child = fork();
  if (child < 0) fail("fork");
  if (child == 0) become(cpu, data, settings, argv + at + 1);
  setpgid(child, child);
  struct sigaction action = {.sa_handler = out_of_time};
  sigaction(SIGALRM, &action, NULL);
  alarm((unsigned)strtoul(argv[2], NULL, 10));
  int status = 0;
  struct rusage used;
  while (wait4(child, &status, 0, &used) < 0)
    if (errno != EINTR) fail("wait4");
  clock_gettime(CLOCK_MONOTONIC, &end);
  alarm(0);
  kill(-child, SIGKILL);  // what it may have left behind
  fprintf(out, "end=%s\ncode=%d\n", timed_out ? "time" : WIFSIGNALED(status) ? "signal" : "exit",
          WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  fprintf(out, "wall_s=%.6f\n", (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
  fprintf(out, "cpu_s=%.6f\nminor=%ld\nmajor=%ld\npeak_kib=%ld\n", seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_minflt,
          used.ru_majflt, used.ru_maxrss);
  return fclose(out) == 0 ? 0 : 1;
}
