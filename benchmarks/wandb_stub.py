"""A W&B server on loopback, for the tests and for the suite ``tracking``; it can be away, hang, or fail."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

KEY = "0123456789abcdef" * 2 + "01234567"


ARTIFACTS = ("ArtifactType", "CreateArtifact", "CreateArtifactManifest", "CreateArtifactFiles", "CommitArtifact")


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that is gone is no failure."""


class Server:
    """A W&B server on loopback, which speaks the calls of W&B's client and keeps them.

    Attributes:
        calls: what was asked of GraphQL: (operation, variables), in order.
        streams: the path of a run's file stream -> what was sent to it.
        refusing: whether runs and reports are refused.
        uploads: path -> the content that was put there.
        projects: the projects that exist.
        trouble: None for a server that answers; ``hangs``: requests are accepted and never answered; a number: this
            status answers every request.
    """

    def __init__(self) -> None:
        """Serve, in threads of their own."""
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.streams: dict[str, list[dict[str, Any]]] = {}
        self.uploads: dict[str, bytes] = {}
        self.refusing = False
        self.projects = ["tskd-tune"]
        self.trouble: int | Literal["hangs"] | None = None
        self._recovered = threading.Event()
        self._port = 0
        self.open()
        self.url = f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Serve, again on the same port."""
        self.trouble = None
        self._recovered.clear()
        self.http = _Http(("127.0.0.1", self._port), self._handler())
        self._port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and let go of requests that hang."""
        self._recovered.set()
        self.http.shutdown()
        self.http.server_close()

    def recover(self) -> None:
        """Answer again, after some trouble."""
        self.trouble = None
        self._recovered.set()
        self._recovered = threading.Event()

    def asked(self, operation: str) -> list[dict[str, Any]]:
        """Return the variables of every call of an operation."""
        return [variables for name, variables in self.calls if name == operation]

    def history(self, stream: str) -> list[dict[str, Any]]:
        """Return the history lines that a run's file stream received."""
        files = [sent["files"].get("wandb-history.jsonl") for sent in self.streams[stream] if "files" in sent]
        return [json.loads(line) for file in files if file for line in file["content"]]

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the data of an operation of GraphQL."""
        told = self._answer_on_artifacts if operation in ARTIFACTS else self._answer
        return told(operation, variables)

    def _answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        entity = {"id": "e", "name": variables.get("entity") or "someone"}
        project = {"id": "p", "name": variables.get("project"), "entity": entity}
        if operation == "UpsertBucket":
            bucket = {"id": "b", "name": variables["name"], "displayName": variables["displayName"], "project": project}
            bucket |= {"config": "{}", "historyLineCount": 0, "description": None, "sweepName": None}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if operation == "ProjectInternalId":
            known = variables["projectName"] in self.projects
            return {"project": {"id": "p", "internalId": "UHJvamVjdEludGVybmFsSWQ6MQ=="} if known else None}
        if operation == "upsertView":
            names = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
            view = {"id": "Vmlldzox", "project": names, "updatedAt": "2026-01-01T00:00:00"}
            kept = ("type", "name", "displayName", "description", "spec")
            return {"upsertView": {"view": view | {name: variables[name] for name in kept}, "inserted": True}}
        if operation == "GetProjects":
            facts = {"id": "p", "entityName": "someone", "createdAt": "2026", "isBenchmark": False, "user": None}
            edges = [{"cursor": "c", "node": facts | {"name": name}} for name in self.projects]
            return {"models": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}
        viewer = {"id": "u", "entity": "someone", "username": "someone", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer, "model": None}

    def _answer_on_artifacts(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        if operation == "ArtifactType":
            return {"project": None}
        if operation == "CreateArtifact":
            sequence = {"id": "s", "latestArtifact": None}
            return {"createArtifact": {"artifact": {"id": "a", "state": "PENDING", "artifactSequence": sequence}}}
        if operation == "CreateArtifactManifest":
            file = {
                "id": "f",
                "name": "m",
                "displayName": "m",
                "uploadUrl": f"{self.url}/manifest",
                "uploadHeaders": [],
            }
            return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}
        if operation == "CreateArtifactFiles":
            nodes = [self._file(one["name"]) for one in variables["input"]["artifactFiles"]]
            return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
        return {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}}

    def _file(self, name: str) -> dict[str, Any]:
        url = f"{self.url}/artifact/{name}"
        told = {"id": name, "name": name, "displayName": name, "uploadUrl": url, "uploadHeaders": []}
        return told | {"storagePath": name, "uploadMultipartUrls": None, "artifact": {"id": "a"}}

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def body(self) -> bytes:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

            def reply(self, code: int, answer: dict[str, Any]) -> None:
                data = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def troubled(self) -> bool:
                trouble = server.trouble
                if trouble == "hangs":
                    server._recovered.wait(600)
                    self.close_connection = True
                elif trouble is not None:
                    self.reply(trouble, {"errors": [{"message": "trouble"}]})
                return trouble is not None

            def do_GET(self) -> None:
                if not self.troubled():
                    self.reply(200, {})

            def do_PUT(self) -> None:
                data = self.body()
                if not self.troubled():
                    server.uploads[self.path] = data
                    self.reply(200, {})

            def do_POST(self) -> None:
                data = self.body()
                if self.troubled():
                    return None
                if self.path.endswith("/file_stream"):
                    server.streams.setdefault(self.path, []).append(json.loads(data))
                if self.path != "/graphql":
                    return self.reply(200, {})
                asked = json.loads(data)
                operation, variables = asked["query"].split("(")[0].split("{")[0].split()[1], asked.get("variables")
                server.calls.append((operation, variables or {}))
                if server.refusing and operation in ("UpsertBucket", "upsertView"):
                    return self.reply(403, {"errors": [{"message": "permission denied"}], "data": {}})
                return self.reply(200, {"data": server.answer(operation, variables or {})})

        return Handler
