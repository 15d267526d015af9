"""Which tests one worker runs: those of a file, or of all files of one `xdist_group`, so that what they share is made once."""

import functools
import re

from xdist.scheduler import LoadScopeScheduling

from . import ROOT

GROUP = re.compile(r'xdist_group\("(\w+)"\)')


@functools.cache
def group_of(file: str) -> str:
    """The group that a file of tests names, or the file by itself."""
    named = GROUP.search((ROOT / file).read_text(encoding="utf-8"))
    return named[1] if named else file


class FilesTogether(LoadScopeScheduling):
    """Files as a whole, in the order of collection.

    xdist's own `loadgroup` spreads the other tests of a file over all workers, and writes the groups into the tests' ids, which
    pytest 9.2 does not let it (issue 1386 of pytest-xdist): no group was held together.
    """

    def __init__(self, config, log=None):
        config.option.loadscopereorder = False  # not those of most tests first: those that take longest stand there
        super().__init__(config, log)

    def _split_scope(self, nodeid):
        return group_of(nodeid.partition("::")[0])
