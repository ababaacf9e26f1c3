/* A pty that stands for a serial line, and the requests on stdin that stand for what happens to a board.
 * For the host build of the firmware (C++) and for the emulator's harness (C). */
#ifndef MF_LINE_H
#define MF_LINE_H

#ifdef __cplusplus
extern "C" {
#endif

struct line {
    int master;        /* -1: unplugged */
    int slave;         /* -1: not kept open */
    int keep_slave;    /* with our own hand on the other end, a host that closes is no hang-up */
    const char *link;  /* a symbolic link to the pty is kept there; or a null pointer */
    char path[64];
};

/* A new pty, raw. Ends the process with a line on stderr if there is none, or if the link's place is taken. */
void line_plug(struct line *line);

/* Close it and take the link away. */
void line_unplug(struct line *line);

/* Read what stdin has, and call `obey` with every whole line. Returns 0 at its end. */
int requests_read(void (*obey)(char *request));

/* Print one line at once. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Bytes from hexadecimal digits; how many, or -1 if they are none or too many. */
int from_hex(const char *digits, unsigned char *bytes, int most);

#ifdef __cplusplus
}
#endif

#endif
