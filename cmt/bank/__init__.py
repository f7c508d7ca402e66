from cmt.common.imports import defer_init

# LanceDB imports data models from its REST client, whose `__init__` spends 0.4 s on the API of LanceDB Cloud
defer_init("lance_namespace_urllib3_client")
