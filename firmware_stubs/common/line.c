#define _GNU_SOURCE
#include "line.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static void give_up(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(2);
}

/* Made aside and renamed, so that who watches never sees half of it. Other files are never replaced. */
static void make_link(const char *link, const char *path) {
    struct stat there;
    char aside[4096];
    if (lstat(link, &there) == 0 && !S_ISLNK(there.st_mode)) {
        fprintf(stderr, "%s: is there already, and no link of a board; choose another name\n", link);
        exit(2);
    }
    if (snprintf(aside, sizeof aside, "%s.%d", link, (int)getpid()) >= (int)sizeof aside) {
        errno = ENAMETOOLONG;
        give_up(link);
    }
    unlink(aside);
    if (symlink(path, aside) || rename(aside, link)) give_up(link);
}

void line_plug(struct line *line) {
    struct termios raw;
    if (openpty(&line->master, &line->slave, line->path, NULL, NULL)) give_up("pty");
    tcgetattr(line->slave, &raw);
    cfmakeraw(&raw);
    cfsetspeed(&raw, B115200);
    tcsetattr(line->slave, TCSANOW, &raw);
    if (!line->keep_slave) {
        close(line->slave);
        line->slave = -1;
    }
    fcntl(line->master, F_SETFL, O_NONBLOCK);
    fcntl(line->master, F_SETFD, FD_CLOEXEC);
    if (line->link) make_link(line->link, line->path);
}

void line_unplug(struct line *line) {
    if (line->master < 0) return;
    if (line->link) unlink(line->link);
    if (line->slave >= 0) close(line->slave);
    close(line->master);
    line->master = line->slave = -1;
}

int requests_read(void (*obey)(char *request)) {
    static char text[65536];
    static size_t used;
    ssize_t got = read(0, text + used, sizeof text - 1 - used);
    char *line = text, *end;
    if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
    used += (size_t)got;
    text[used] = 0;
    while ((end = strchr(line, '\n'))) {
        *end = 0;
        obey(line);
        line = end + 1;
    }
    used = strlen(line);
    memmove(text, line, used + 1);
    if (used == sizeof text - 1) used = 0; /* a line without end is no request */
    return 1;
}

void say(const char *format, ...) {
    va_list list;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
    fflush(stdout);
}

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

int from_hex(const char *digits, unsigned char *bytes, int most) {
    int count = 0;
    for (; digits[0]; digits += 2) {
        if (count == most || digit(digits[0]) < 0 || digit(digits[1]) < 0) return -1;
        bytes[count++] = (unsigned char)(digit(digits[0]) << 4 | digit(digits[1]));
    }
    return count;
}
