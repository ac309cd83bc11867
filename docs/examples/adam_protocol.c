/* Adam as a candidate for graftsim: one program that answers the line protocol of spec/protocol.md.

   cc -std=c11 -O2 -o adam_protocol adam_protocol.c -lm

   It reads requests with strstr and strtod, since their form is fixed, and writes floats with %a, which is exact.
   The state is kept between requests; a request of another machine is answered by "unsupported". */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = (1 << 20) + 1, MOST = 1 << 18 }; /* a line has at most 2^20 bytes, a number at least 5 of them */

static char line[LINE];
static int tensors, present[MOST], size[MOST];
static int narrow, advance; /* whether weights are float32; whether t advances without a gradient */
static double w[MOST], g[MOST], m[MOST], v[MOST], t[MOST];

/* What follows "key": in the request. */
static const char *find(const char *key)
{
    char text[64];
    snprintf(text, sizeof text, "\"%s\":", key);
    const char *at = strstr(line, text);
    if (!at) {
        fprintf(stderr, "a request without %s: %.200s\n", key, line);
        exit(1);
    }
    return at + strlen(text);
}

static double number(const char **at)
{
    char *end;
    double x = strtod(strchr(*at, '"') + 1, &end);
    *at = end + 1; /* the closing quotation mark */
    return x;
}

static double hyperparameter(const char *name)
{
    const char *at = find(name);
    return number(&at);
}

/* A list of numbers; how many there are, or -1 for null. */
static int list(const char **at, double *x)
{
    int n = 0;
    while (**at != '[' && **at != 'n')
        ++*at;
    if (**at == 'n') {
        *at += strlen("null");
        return -1;
    }
    for (++*at; **at != ']';) {
        x[n++] = number(at);
        if (**at == ',')
            ++*at;
    }
    ++*at;
    return n;
}

/* Coordinates are a list of lists, one for each tensor. */
static void weights(const char *at, double *x)
{
    for (tensors = 0, ++at; *at == '[' || *at == ','; x += size[tensors++])
        size[tensors] = list(&at, x);
}

static void gradients(const char *at)
{
    double *x = g;
    ++at;
    for (int k = 0; k < tensors; x += size[k++])
        present[k] = list(&at, x) >= 0;
}

static void write_list(const double *x, int n)
{
    putchar('[');
    for (int i = 0; i < n; i++)
        printf("%s\"%a\"", i ? "," : "", x[i]);
    putchar(']');
}

static void write_tensors(const char *name, const double *x)
{
    printf("\"%s\":[", name);
    for (int k = 0; k < tensors; x += size[k++]) {
        if (k)
            putchar(',');
        write_list(x, size[k]);
    }
    putchar(']');
}

static void write_state(void)
{
    printf("\"state\":{\"t\":");
    write_list(t, tensors);
    putchar(',');
    write_tensors("m", m);
    putchar(',');
    write_tensors("v", v);
    putchar('}');
}

/* A float32 operation is a float64 operation rounded once more: for + - * / and sqrt that is the same number. */
static double r(double x) { return narrow ? (double)(float)x : x; }

static double quotient(double a, double b) { return b != 0 ? r(a / b) : a - a == 0 ? 0 : NAN; }

/* One step; spec/graftsim_spec/machines/adam.yaml line by line. */
static void step(void)
{
    double lr = r(hyperparameter("lr")), eps = r(hyperparameter("eps"));
    double beta1 = hyperparameter("beta1"), beta2 = hyperparameter("beta2");
    double rest1 = r(1 - beta1), rest2 = r(1 - beta2);
    for (int k = 0, i = 0; k < tensors; k++) {
        if (present[k] || advance)
            t[k] += 1;
        double c1 = 1 - pow(beta1, t[k]), c2 = 1 - pow(beta2, t[k]);
        for (int end = i + size[k]; i < end; i++) {
            if (!present[k])
                continue;
            m[i] = r(r(r(beta1) * m[i]) + r(rest1 * g[i]));
            v[i] = r(r(r(beta2) * v[i]) + r(rest2 * r(g[i] * g[i])));
            double root = r(r(sqrt(r(v[i] / c2))) + eps);
            double delta = -r(lr * quotient(r(m[i] / c1), root));
            w[i] = r(w[i] + delta);
        }
    }
}

static int is(const char *key, const char *value)
{
    return !strncmp(find(key), value, strlen(value));
}

static void start(void)
{
    int hold = is("machine", "\"adam(eps_placement=corrected, missing=hold)\"");
    advance = is("machine", "\"adam(eps_placement=corrected, missing=advance)\"");
    if (!hold && !advance) {
        printf("{\"message\":\"unsupported\",\"reason\":\"only adam(eps_placement=corrected)\"}\n");
        return;
    }
    narrow = is("dtype", "\"float32\"");
    weights(find("weights"), w);
    memset(m, 0, sizeof m);
    memset(v, 0, sizeof v);
    memset(t, 0, sizeof t);
    printf("{\"message\":\"ready\",");
    write_state();
    printf("}\n");
}

static void restore(void)
{
    const char *at = find("t");
    list(&at, t);
    weights(find("weights"), w);
    weights(find("m"), m);
    weights(find("v"), v);
    printf("{\"message\":\"ready\"}\n");
}

int main(void)
{
    while (fgets(line, LINE, stdin) && !is("message", "\"bye\"")) {
        if (is("message", "\"hello\"")) {
            printf("{\"message\":\"describe\",\"protocol\":1,\"name\":\"adam in C\","
                   "\"dtypes\":[\"float64\",\"float32\"],\"abilities\":[\"restore\",\"missing\"]}\n");
        } else if (is("message", "\"start\"")) {
            start();
        } else if (is("message", "\"restore\"")) {
            restore();
        } else if (is("message", "\"step\"")) {
            gradients(find("gradients"));
            step();
            printf("{\"message\":\"stepped\",");
            write_tensors("weights", w);
            putchar(',');
            write_state();
            printf("}\n");
        }
        fflush(stdout);
    }
    return 0;
}
