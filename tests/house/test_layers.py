import sys

import grimp


def test_api_imports_the_standard_library_alone() -> None:
    graph = grimp.build_graph("imagetrain_api", include_external_packages=True, cache_dir=None)
    roots = {module.partition(".")[0] for module in graph.modules}
    assert roots - set(sys.stdlib_module_names) == {"imagetrain_api"}
