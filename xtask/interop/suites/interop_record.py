"""A plugin of pytest: writes what came of each test to a file, as the chore reads it.

One line is `collected`, `passed`, `failed` or `skipped`, the test, and the reason of a failure,
separated by tabs. A test's set-up and teardown count as the test.
"""

import os


def note(what, test, reason=""):
    """Appends a line at once: the process may be ended at any time."""
    reason = " | ".join(line.strip() for line in reason.splitlines()).replace("\t", " ")
    with open(os.environ["INTEROP_RECORD"], "a", encoding="utf-8") as record:
        record.write(f"{what}\t{test}\t{reason}\n")


def pytest_collection_finish(session):
    """All tests that were chosen."""
    for item in session.items:
        note("collected", item.nodeid)


def pytest_runtest_logreport(report):
    """One phase of one test."""
    if report.failed:
        note("failed", report.nodeid, reason_of(report))
    elif report.skipped:
        # An expected failure that failed is no result either.
        note("skipped", report.nodeid)
    elif report.when == "call":
        note("passed", report.nodeid)


def reason_of(report):
    """The line that says what was raised, and where."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return str(report.longrepr)[-400:]
    return f"{report.when}: {crash.message[:400]} ({os.path.basename(crash.path)}:{crash.lineno})"
