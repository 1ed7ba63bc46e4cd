# Evaluates code: what it wrote goes to the outputs, what it came to is told as JSON.

TEXT_LIMIT = 64 << 10
TRACEBACK_LIMIT = 256 << 10
# The whole report has to fit into one reply of the guest.
REPORT_LIMIT = 3 << 20
# What a value may consist of to be told as JSON.
NODE_LIMIT = 200_000
DEPTH_LIMIT = 64
SOURCES = 500
AWAIT = getattr(ast, "PyCF_ALLOW_TOP_LEVEL_AWAIT", 0)
COROUTINE = 0x80
FUTURES = 0
for _name in __import__("__future__").all_feature_names:
    FUTURES |= getattr(__import__("__future__"), _name).compiler_flag
MIME_METHODS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("text/latex", "_repr_latex_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("application/pdf", "_repr_pdf_"),
)


def clean(text, limit):
    """Text as UTF-8 can carry it, cut in the middle where it is too long."""
    if len(text) > limit:
        half = limit // 2
        text = "%s\n[... %d characters ...]\n%s" % (text[:half], len(text) - 2 * half, text[-half:])
    return str.encode(text, "utf-8", "backslashreplace").decode("utf-8")


def is_plain(value):
    """Whether a value is made of what JSON has, in bounds, so that it can be told without loss."""
    left = NODE_LIMIT
    size = REPORT_LIMIT // 2
    level = [value]
    for _ in range(DEPTH_LIMIT):
        if not level:
            return True
        below = []
        left -= len(level)
        if left < 0:
            return False
        for item in level:
            kind = type(item)
            if kind is str:
                size -= len(item)
            elif kind is int:
                if not -(1 << 63) <= item < 1 << 64:
                    return False
            elif kind is float:
                if item - item != 0.0:
                    return False
            elif kind is list or kind is tuple:
                if len(item) > left:
                    return False
                below.extend(item)
            elif kind is dict:
                if len(item) > left or any(type(key) is not str for key in item):
                    return False
                below.extend(item)
                below.extend(item.values())
            elif item is not None and kind is not bool:
                return False
        if size < 0:
            return False
        level = below
    return False


def is_text(mime):
    return mime.startswith("text/") or mime.endswith(("+xml", "+json", "/json", "/javascript"))


def mime_entry(mime, data):
    """What stands for a MIME type: text as it is, bytes as base64; None when it is neither."""
    if type(data) is str:
        # What is no text type is base64 already, by custom.
        return clean(data, REPORT_LIMIT)
    if isinstance(data, (bytes, bytearray)):
        if is_text(mime):
            return clean(bytes(data).decode("utf-8", "replace"), REPORT_LIMIT)
        return b64encode(data).decode("ascii")
    if mime.endswith("json") and is_plain(data):
        return json.dumps(data, ensure_ascii=False)
    return None


def mime_bundle(value):
    """The forms that a value has besides its repr."""
    kind = type(value)
    if kind.__module__ == "builtins":
        return {}
    found = {}
    method = getattr(kind, "_repr_mimebundle_", None)
    if method is not None:
        bundle = method(value, include=None, exclude=None)
        found.update(bundle[0] if isinstance(bundle, tuple) else bundle or {})
    for mime, name in MIME_METHODS:
        method = getattr(kind, name, None)
        if method is not None and mime not in found:
            data = method(value)
            if isinstance(data, tuple):
                data = data[0]
            if data is not None:
                found[mime] = data
    told = {}
    for mime, data in found.items():
        entry = mime_entry(str(mime), data)
        if entry is not None and mime != "text/plain":
            told[clean(str(mime), 200)] = entry
    return told


class Interpreter:
    """Runs code in one namespace, that of `__main__`."""

    def __init__(self):
        main = types.ModuleType("__main__")
        main.__dict__["__builtins__"] = sys.modules["builtins"]
        main.__dict__["display"] = self.display
        sys.modules["__main__"] = main
        self.names = main.__dict__
        self.flags = 0
        self.count = 0
        self.sources = []
        self.displays = []
        self.loop = None
        self.running = False
        self.pending = False

    def display(self, *values):
        """Shows values beside what is printed: each in all the forms that it has."""
        for value in values:
            self.displays.append(dict(mime_bundle(value), **{"text/plain": clean(repr(value), TEXT_LIMIT)}))

    def on_interrupt(self, *_):
        if self.running:
            raise KeyboardInterrupt
        # It came before the code that it is for, or after it; the guest says which.
        self.pending = True

    def compile(self, code):
        self.count += 1
        name = "<run %d>" % self.count
        lines = code.splitlines(True)
        linecache.cache[name] = (len(code), None, lines, name)
        self.sources.append(name)
        if len(self.sources) > SOURCES:
            linecache.cache.pop(self.sources.pop(0), None)
        flags = self.flags | AWAIT
        tree = compile(code, name, "exec", flags | ast.PyCF_ONLY_AST, True)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        body = compile(tree, name, "exec", flags, True)
        self.flags |= body.co_flags & FUTURES
        return body, last and compile(last, name, "eval", self.flags | AWAIT, True)

    def evaluate(self, code):
        if not code.co_flags & COROUTINE:
            return eval(code, self.names)
        import asyncio

        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(eval(code, self.names))
        try:
            return self.loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            self.loop.run_until_complete(asyncio.wait([task], timeout=1))
            raise

    def value_of(self, code):
        body, last = self.compile(code)
        self.evaluate(body)
        if last is None:
            return {}
        value = self.evaluate(last)
        if value is None:
            return {}
        self.names["_"] = value
        told = {"repr": clean(repr(value), TEXT_LIMIT)}
        if is_plain(value):
            told["json"] = value
        bundle = mime_bundle(value)
        if bundle:
            told["mime"] = bundle
        return {"value": told}

    def figures(self):
        """Shows what matplotlib has drawn, and puts it away."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None:
            return
        import io

        for number in pyplot.get_fignums():
            png = io.BytesIO()
            pyplot.figure(number).savefig(png, format="png", bbox_inches="tight")
            self.displays.append({"image/png": b64encode(png.getvalue()).decode("ascii")})
        pyplot.close("all")

    def explain(self, error):
        """An exception as its owner sees it: only frames of code that is the owner's."""
        kind = type(error)
        name = kind.__qualname__
        if kind.__module__ not in ("builtins", "__main__"):
            name = "%s.%s" % (kind.__module__, name)
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == OURS:
            trace = trace.tb_next
        last = trace
        while last is not None and last.tb_next is not None:
            if last.tb_next.tb_frame.f_code is Interpreter.on_interrupt.__code__:
                last.tb_next = None
            last = last.tb_next
        text = "".join(traceback.format_exception(kind, error, trace))
        return {
            "name": clean(name, 200),
            "message": clean(str(error), TEXT_LIMIT),
            "traceback": clean(text, TRACEBACK_LIMIT),
        }

    def run(self, code):
        """Runs code; its exit status, and what it came to as JSON."""
        signal.signal(signal.SIGINT, self.on_interrupt)
        status, report = 0, {}
        self.displays = []
        here = os.getpid()
        try:
            self.running = True
            try:
                if self.pending:
                    self.pending = False
                    raise KeyboardInterrupt
                report = self.value_of(code)
                self.figures()
            except SystemExit as error:
                given = error.code
                status = given & 255 if isinstance(given, int) else int(given is not None)
                if given is not None and not isinstance(given, int):
                    print(given, file=sys.stderr)
                report = {"error": self.explain(error)}
            except BaseException as error:
                status, report = 1, {"error": self.explain(error)}
            finally:
                if os.getpid() == here:
                    for stream in (sys.stdout, sys.stderr):
                        try:
                            stream.flush()
                        except Exception:
                            pass
                self.running = False
        except BaseException as error:
            # Interrupted, or worse, while it was told what happened.
            self.running = False
            name = type(error).__name__
            told = "%s while the outcome was being told" % name
            status, report = 1, {"error": {"name": name, "message": told, "traceback": ""}}
        if os.getpid() != here:
            # Code that forked and let the child come here: it has no part in this.
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        return status, self.report(report)

    def report(self, report):
        if self.displays:
            report["displays"] = self.displays
        for without in ((), ("displays",), ("mime",), ("json",), ("repr",)):
            for name in without:
                told = report if name == "displays" else report.get("value", {})
                if told.pop(name, None) is not None:
                    report.setdefault("omitted", []).append(name)
            try:
                text = json.dumps(report, ensure_ascii=False, allow_nan=False).encode("utf-8")
            except (ValueError, TypeError, RecursionError):
                continue
            if len(text) <= REPORT_LIMIT:
                return text
        return b'{"error":{"name":"ValueError","message":"the outcome cannot be told","traceback":""}}'
