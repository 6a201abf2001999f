"""The commands about clusters. Each command imports its modules only when it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tskd_tune.cli.app import CLUSTERS, Commands, Json, app
from tskd_tune.cli.terminal import in_words

EXAMPLES = """Example: tskd-tune cluster init

Example: tskd-tune cluster init --region us-west-2 --ssh-from 203.0.113.7 --storage s3://my-bucket/runs

Example: tskd-tune cluster init --provider local --head 10.0.0.1 --worker 10.0.0.2 --worker 10.0.0.3 --ssh-user lab
--ssh-key ~/.ssh/lab --storage /mnt/shared/runs
"""
clusters = typer.Typer(
    cls=Commands,
    help="Write the file of a cluster: on AWS, on machines of your own, or a job of SLURM.",
    epilog=EXAMPLES,
    no_args_is_help=True,
)
app.add_typer(clusters, name="cluster", rich_help_panel=CLUSTERS)


class Provider(StrEnum):
    """The kinds of clusters."""

    AWS = "aws"
    LOCAL = "local"
    SLURM = "slurm"


ON_AWS, OWN_MACHINES = "On AWS", "On machines of your own (--provider local)"


def _option(name: str, metavar: str, words: str, panel: str | None = None) -> object:
    """Return an option whose default is not shown, because it is asked for or made."""
    return typer.Option(name, metavar=metavar, help=words, show_default=False, rich_help_panel=panel)


File = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]",
        help="File to write; default: cluster.yaml, cluster.local.yaml or cluster.slurm.sh.",
        show_default=False,
    ),
]
Kind = Annotated[
    Provider, typer.Option("--provider", help="Kind of cluster: on AWS, on machines of your own, or a job of SLURM.")
]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the cluster.")]
Storage = Annotated[
    str | None,
    _option("--storage", "URL", "Where runs are kept: s3://BUCKET/PATH, or a folder that all machines share."),
]
Region = Annotated[str | None, _option("--region", "REGION", "Region, such as us-west-2.", ON_AWS)]
SshFrom = Annotated[str | None, _option("--ssh-from", "CIDR", "Addresses that may log in by SSH.", ON_AWS)]
HeadType = Annotated[str, typer.Option("--head-type", metavar="TYPE", help="Type of the head.", rich_help_panel=ON_AWS)]
WorkerType = Annotated[
    str, typer.Option("--worker-type", metavar="TYPE", help="Type of the workers.", rich_help_panel=ON_AWS)
]
Workers = Annotated[
    int, typer.Option("--workers", metavar="N", help="Largest number of workers.", rich_help_panel=ON_AWS)
]
Spot = Annotated[bool, typer.Option("--spot/--on-demand", help="Market of the workers.", rich_help_panel=ON_AWS)]
Export = Annotated[
    str | None, _option("--export", "SERVER:/PATH", "NFS export (EFS) that is mounted for a --storage folder.", ON_AWS)
]
Data = Annotated[str | None, _option("--data", "URL", "Datasets, s3://BUCKET/PATH, which each machine copies.", ON_AWS)]
Vpc = Annotated[str | None, _option("--vpc", "ID", "Network; default: the account's default network.", ON_AWS)]
Image = Annotated[str | None, _option("--image", "ID", "Existing image; default: the newest.", ON_AWS)]
Group = Annotated[str | None, _option("--security-group", "ID", "Existing security group; default: make one.", ON_AWS)]
HeadProfile = Annotated[
    str | None, _option("--head-profile", "NAME", "Existing instance profile of the head; default: make one.", ON_AWS)
]
WorkerProfile = Annotated[
    str | None,
    _option("--worker-profile", "NAME", "Existing instance profile of the workers; default: make one.", ON_AWS),
]
Head = Annotated[str | None, _option("--head", "ADDRESS", "The head, which runs no trial.", OWN_MACHINES)]
Worker = Annotated[
    list[str] | None, _option("--worker", "ADDRESS", "A worker; may be given several times.", OWN_MACHINES)
]
SshUser = Annotated[str | None, _option("--ssh-user", "USER", "User of SSH.", OWN_MACHINES)]
SshKey = Annotated[Path | None, _option("--ssh-key", "FILE", "Private key of SSH.", OWN_MACHINES)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")]


@clusters.command("init", epilog=EXAMPLES)
@in_words
def _init(
    file: File = None,
    *,
    provider: Kind = Provider.AWS,
    name: Name = "tskd-tune",
    storage: Storage = None,
    region: Region = None,
    ssh_from: SshFrom = None,
    head_type: HeadType = "m6i.large",
    worker_type: WorkerType = "g6.xlarge",
    workers: Workers = 8,
    spot: Spot = True,
    export: Export = None,
    data: Data = None,
    vpc: Vpc = None,
    image: Image = None,
    security_group: Group = None,
    head_profile: HeadProfile = None,
    worker_profile: WorkerProfile = None,
    head: Head = None,
    worker: Worker = None,
    ssh_user: SshUser = None,
    ssh_key: SshKey = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the file of a cluster; ask for what no option gives. On AWS also make security group, roles and bucket."""
    from tskd_tune.cli.preparing import clustering

    target = file or Path(clustering.DEFAULT_FILES[provider.value])
    clustering.refuse_existing(target, overwrite=overwrite)
    if provider is Provider.SLURM:
        made = clustering.slurm()
    elif provider is Provider.LOCAL:
        made = clustering.local(name=name, head=head, workers=worker or [], user=ssh_user, key=ssh_key, storage=storage)
    else:
        given = {"region": region, "ssh_from": ssh_from, "storage": storage, "export": export, "data": data}
        given |= {"name": name, "head_type": head_type, "worker_type": worker_type}
        existing = {"IMAGE": image, "SECURITY-GROUP": security_group}
        existing |= {"HEAD-PROFILE": head_profile, "WORKER-PROFILE": worker_profile}
        made = clustering.aws(given, workers=workers, spot=spot, existing=existing, vpc=vpc)
    clustering.write(target, made, as_json=as_json)
