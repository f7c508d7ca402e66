import os

from cmt.common.imports import defer_init

# LanceDB imports data models from its REST client, whose `__init__` spends 0.4 s on the API of
# LanceDB Cloud
defer_init("lance_namespace_urllib3_client")
# Lance gives a merge 150 MB, which is a limit for the rows of a round: about 7,000 of them. A
# quarter of the machine's memory instead, none of which is allocated in advance
# (https://github.com/lance-format/lance/issues/8129)
if hasattr(os, "sysconf"):
    os.environ.setdefault(
        "LANCE_MEM_POOL_SIZE", str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
    )
