"""The commands about clusters. Each command imports its modules only when it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tskd_tune.cli.app import Commands, Json, app
from tskd_tune.cli.terminal import in_words

EXAMPLES = """Example: tskd-tune cluster init

Example: tskd-tune cluster init --region us-west-2 --ssh-from 203.0.113.7 --storage s3://my-bucket/runs

Example: tskd-tune cluster init --provider local --head 10.0.0.1 --worker 10.0.0.2 --worker 10.0.0.3 --ssh-user lab
--ssh-key ~/.ssh/lab --storage /mnt/shared/runs
"""
clusters = typer.Typer(cls=Commands, help="Write the file of a cluster.", epilog=EXAMPLES, no_args_is_help=True)
app.add_typer(clusters, name="cluster")


class Provider(StrEnum):
    """The kinds of clusters."""

    AWS = "aws"
    LOCAL = "local"
    SLURM = "slurm"


def _option(name: str, metavar: str, words: str) -> object:
    """Return an option whose default is not shown, because it is asked for or made."""
    return typer.Option(name, metavar=metavar, help=words, show_default=False)


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
Region = Annotated[str | None, _option("--region", "REGION", "AWS: region, such as us-west-2.")]
SshFrom = Annotated[str | None, _option("--ssh-from", "CIDR", "AWS: addresses that may log in by SSH.")]
HeadType = Annotated[str, typer.Option("--head-type", metavar="TYPE", help="AWS: type of the head.")]
WorkerType = Annotated[str, typer.Option("--worker-type", metavar="TYPE", help="AWS: type of the workers.")]
Workers = Annotated[int, typer.Option("--workers", metavar="N", help="AWS: largest number of workers.")]
Spot = Annotated[bool, typer.Option("--spot/--on-demand", help="AWS: market of the workers.")]
Export = Annotated[
    str | None, _option("--export", "SERVER:/PATH", "AWS: NFS export (EFS) that is mounted for a --storage folder.")
]
Data = Annotated[
    str | None, _option("--data", "URL", "AWS: s3://BUCKET/PATH with datasets, which each machine copies.")
]
Vpc = Annotated[str | None, _option("--vpc", "ID", "AWS: network; default: the account's default network.")]
Image = Annotated[str | None, _option("--image", "ID", "AWS: existing image; default: the newest.")]
Group = Annotated[str | None, _option("--security-group", "ID", "AWS: existing security group; default: make one.")]
HeadProfile = Annotated[
    str | None, _option("--head-profile", "NAME", "AWS: existing instance profile of the head; default: make one.")
]
WorkerProfile = Annotated[
    str | None, _option("--worker-profile", "NAME", "AWS: existing instance profile of the workers; default: make one.")
]
Head = Annotated[str | None, _option("--head", "ADDRESS", "Own machines: the head, which runs no trial.")]
Worker = Annotated[
    list[str] | None, _option("--worker", "ADDRESS", "Own machines: a worker; may be given several times.")
]
SshUser = Annotated[str | None, _option("--ssh-user", "USER", "Own machines: user of SSH.")]
SshKey = Annotated[Path | None, _option("--ssh-key", "FILE", "Own machines: private key of SSH.")]
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
