"""The command line: `cmt …`, and the stages that `dvc.yaml` runs."""
