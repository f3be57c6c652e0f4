/* Fails chosen allocations of one thread: a layer over all three of Python's allocators. The native modules of this
   project allocate by nothing else. Counting goes on over pauses; a test decides what is counted. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>

static PyMemAllocatorEx below[3];
static const PyMemAllocatorDomain domains[3] = {PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
static pthread_t counted;
static volatile int counting;
static long seen, failed, first, last;

static int fails(void) {
    if (!counting || !pthread_equal(pthread_self(), counted)) return 0;
    seen++;
    if (seen < first || seen > last) return 0;
    failed++;
    return 1;
}

static void *failing_malloc(void *context, size_t size) {
    PyMemAllocatorEx *allocator = context;
    return fails() ? NULL : allocator->malloc(allocator->ctx, size);
}

static void *failing_calloc(void *context, size_t count, size_t size) {
    PyMemAllocatorEx *allocator = context;
    return fails() ? NULL : allocator->calloc(allocator->ctx, count, size);
}

static void *failing_realloc(void *context, void *block, size_t size) {
    PyMemAllocatorEx *allocator = context;
    return fails() ? NULL : allocator->realloc(allocator->ctx, block, size);
}

static void passing_free(void *context, void *block) {
    PyMemAllocatorEx *allocator = context;
    allocator->free(allocator->ctx, block);
}

static PyObject *fail(PyObject *module, PyObject *arguments) {
    if (!PyArg_ParseTuple(arguments, "ll", &first, &last)) return NULL;
    counted = pthread_self();
    counting = 0;
    seen = failed = 0;
    Py_RETURN_NONE;
}

static PyObject *count(PyObject *module, PyObject *whether) {
    int did = counting;
    counting = whether == Py_True;
    if (did) Py_RETURN_TRUE;
    Py_RETURN_FALSE;
}

static PyObject *failures(PyObject *module, PyObject *nothing) {
    return PyLong_FromLong(failed);
}

static PyMethodDef methods[] = {
    {"fail", fail, METH_VARARGS, "fail(first, last): those allocations, of the counted ones from here on; the first is 1."},
    {"count", count, METH_O, "Whether to count, and fail; returns whether it did. Allocates nothing itself."},
    {"failures", failures, METH_NOARGS, "How many have failed since `fail`."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "allocations", NULL, -1, methods};

PyMODINIT_FUNC PyInit_allocations(void) {
    for (int i = 0; i < 3; i++) {
        PyMem_GetAllocator(domains[i], &below[i]);
        PyMemAllocatorEx above = {&below[i], failing_malloc, failing_calloc, failing_realloc, passing_free};
        PyMem_SetAllocator(domains[i], &above);
    }
    return PyModule_Create(&definition);
}
