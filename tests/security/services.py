"""A Kafka and a Redis that demand TLS, a login and permissions, and the worker against them; what is secret is known here."""

import base64
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 90
JVM = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]


def say(line):
    print(line, file=sys.stderr, flush=True)


def free_port():
    while True:
        # Below the range from which the kernel gives out ports by itself.
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def eventually(what, holds, log=lambda: ""):
    """Waits until `holds` says something true, and gives that back."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > deadline:
            raise RuntimeError(f"never came: {what}\n{log()}")
        time.sleep(0.1)


def run(*command, stdin=None, environment=None, limit_s=120):
    """Standard output of a command that succeeds."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=limit_s, env={**os.environ, **(environment or {})}
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Folder:
    """Everything that a run makes; goes with it."""

    def __init__(self, path):
        self.path = Path(path)
        self.processes = []

    def at(self, name):
        return self.path / name

    def write(self, name, text):
        """Whole or not at all, as a mounted secret changes."""
        part = self.at(f"{name}.part")
        part.write_text(text)
        part.replace(self.at(name))
        return self.at(name)

    def start(self, name, command, environment=None):
        log = self.at(f"{name}.log").open("ab")
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        log.close()
        self.processes.append(process)
        return process

    def log(self, name):
        return self.at(f"{name}.log").read_text(errors="replace")

    def tail(self, name, lines=40):
        return "\n".join(self.log(name).splitlines()[-lines:])

    def take_down(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


class Secrets:
    """Every secret that was ever given out, so that all that was written can be searched for them."""

    def __init__(self):
        self.all = {}

    def password(self, whose):
        secret = base64.urlsafe_b64encode(random.randbytes(18)).decode().strip("=")
        self.all[secret] = whose
        return secret

    def token(self, whose, text):
        self.all[text] = whose
        return text

    def shown_in(self, text):
        return sorted({whose for secret, whose in self.all.items() if secret in text})


# --- certificates and tokens


def authority(folder, name):
    """An authority, and a certificate of it for 127.0.0.1: NAME-ca.pem, NAME.crt, NAME.key."""
    ca_key, ca, key, crt = (folder.at(f"{name}{end}") for end in ("-ca.key", "-ca.pem", ".key", ".crt"))
    new_key = ["-newkey", "rsa:2048", "-nodes"]
    run("openssl", "req", "-x509", *new_key, "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", f"/CN={name}")
    request = run("openssl", "req", *new_key, "-keyout", key, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    run(
        *f"openssl x509 -req -CA {ca} -CAkey {ca_key} -CAcreateserial -days 2 -copy_extensions copy -out {crt}".split(), stdin=request
    )
    # As Java reads both from one file.
    folder.write(f"{name}.pem", key.read_text() + crt.read_text())


def b64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Issuer:
    """Signs tokens for Kafka (RS256), and publishes its key as a JWKS."""

    def __init__(self, folder, name):
        self.folder, self.key = folder, folder.at(f"{name}.rsa")
        run("openssl", "genrsa", "-out", str(self.key), "2048")
        modulus = run("openssl", "rsa", "-in", str(self.key), "-noout", "-modulus").strip().partition("=")[2]
        jwk = {"kty": "RSA", "kid": "1", "alg": "RS256", "use": "sig", "n": b64(bytes.fromhex(modulus)), "e": "AQAB"}
        self.jwks = folder.write(f"{name}.jwks", json.dumps({"keys": [jwk]}))

    def token(self, user, life_s):
        now = int(time.time())
        claims = {"sub": user, "iss": "test", "aud": "kafka", "scope": ["kafka"], "iat": now, "exp": now + life_s}
        signed = ".".join(b64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1", "typ": "JWT"}, claims))
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.key)], input=signed.encode(), capture_output=True, check=True
        ).stdout
        return f"{signed}.{b64(signature)}"


# --- Kafka


class Kafka:
    """One node. Its listener takes SCRAM-SHA-512 and OAUTHBEARER over TLS; who has no permission may do nothing.

    A listener of the test's own takes PLAIN, for the only user `admin`: Debian's kcat fails at SCRAM-SHA-512.
    """

    def __init__(self, folder, jars, passwords, issuer):
        self.folder, self.jars = folder, f"{jars}/*"
        self.address = f"127.0.0.1:{free_port()}"
        controller, tools = (f"127.0.0.1:{free_port()}" for _ in range(2))
        admin = passwords["admin"]
        scram = f'org.apache.kafka.common.security.scram.ScramLoginModule required username="admin" password="{admin}";'
        plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="{admin}" user_admin="{admin}";'
        oauth = "org.apache.kafka.common.security.oauthbearer"
        ssl = f"""
ssl.keystore.type=PEM
ssl.keystore.location={folder.at('known.pem')}
ssl.truststore.type=PEM
ssl.truststore.location={folder.at('known-ca.pem')}
"""
        settings = folder.write(
            "server.properties",
            f"""
node.id=1
process.roles=broker,controller
listeners=SASL_SSL://{self.address},TOOLS://{tools},CONTROLLER://{controller}
advertised.listeners=SASL_SSL://{self.address},TOOLS://{tools}
listener.security.protocol.map=SASL_SSL:SASL_SSL,TOOLS:SASL_SSL,CONTROLLER:SASL_SSL
inter.broker.listener.name=SASL_SSL
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{controller}
log.dirs={folder.at('kafka')}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:admin
sasl.enabled.mechanisms=SCRAM-SHA-512,OAUTHBEARER
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.tools.sasl.enabled.mechanisms=PLAIN
listener.name.tools.plain.sasl.jaas.config={plain}
listener.name.controller.plain.sasl.jaas.config={plain}
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram}
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config={oauth}.OAuthBearerLoginModule required;
listener.name.sasl_ssl.oauthbearer.sasl.server.callback.handler.class={oauth}.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwks.endpoint.url={issuer.jwks.as_uri()}
sasl.oauthbearer.expected.audience=kafka
# Kafka 4.1.0's own choice verifies no signature.
sasl.oauthbearer.jwt.validator.class={oauth}.BrokerJwtValidator
# Whoever logs in with a token is cut off when it ends, unless a newer one is shown on the same connection.
connections.max.reauth.ms=600000
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
{ssl}""",
        )
        users = [f"SCRAM-SHA-512=[name={user},password={password}]" for user, password in passwords.items()]
        scrams = [argument for user in users for argument in ("--add-scram", user)]
        self.java("kafka.tools.StorageTool", "format", "-t", "5L6g3nShT-eMCtK--X86sw", "-c", str(settings), *scrams)
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={issuer.jwks.as_uri()}"
        self.process = folder.start("kafka", [*JVM, "-Xmx512m", allowed, "-cp", self.jars, "kafka.Kafka", str(settings)])
        folder.write(
            "admin.properties",
            f"security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config={scram}\n"
            f"ssl.truststore.type=PEM\nssl.truststore.location={folder.at('known-ca.pem')}\n",
        )
        folder.write(
            "kcat.conf",
            f"bootstrap.servers={tools}\nsecurity.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n"
            f"sasl.username=admin\nsasl.password={admin}\nssl.ca.location={folder.at('known-ca.pem')}\n",
        )

    def await_started(self):
        def started():
            if self.process.poll() is not None:
                raise RuntimeError(f"Kafka ended while starting\n{self.folder.tail('kafka')}")
            return "Kafka Server started" in self.folder.log("kafka")

        eventually("Kafka", started, lambda: self.folder.tail("kafka"))

    def java(self, tool, *arguments):
        return run(*JVM, "-Xmx256m", "-cp", self.jars, tool, *arguments)

    def admin(self, tool, *arguments):
        connect = ["--bootstrap-server", self.address, "--command-config", str(self.folder.at("admin.properties"))]
        return self.java(tool, *connect, *arguments)

    def acls(self, command):
        """Runs a line of the documentation, `kafka-acls.sh …`."""
        program, *arguments = command.split()
        assert program == "kafka-acls.sh", command
        return self.admin("org.apache.kafka.tools.AclCommand", "--force", *arguments)

    def set_password(self, user, password):
        scram = f"SCRAM-SHA-512=[password={password}]"
        self.admin("kafka.admin.ConfigCommand", "--alter", "--entity-type", "users", "--entity-name", user, "--add-config", scram)

    def make_topics(self, topics):
        """Name and settings of each; kcat cannot, and a JVM for each would take a minute."""
        script = self.folder.write(
            "Topics.java",
            """import java.util.*; import org.apache.kafka.clients.admin.*;
            public class Topics { public static void main(String[] a) throws Exception {
              var p = new Properties(); try (var in = new java.io.FileReader(a[0])) { p.load(in); } p.put("bootstrap.servers", a[1]);
              try (var admin = Admin.create(p)) { var wanted = new ArrayList<NewTopic>();
                for (int i = 2; i < a.length; i++) wanted.add(new NewTopic(a[i], 2, (short) 1).configs(
                  a[i].equals("accrual.accounts") ? Map.of("cleanup.policy", "compact") : Map.of()));
                admin.createTopics(wanted).all().get(); } } }""",
        )
        run(*JVM, "-cp", self.jars, str(script), str(self.folder.at("admin.properties")), self.address, *topics)

    def read(self, topic):
        """All committed records of a topic."""
        listed = run("kcat", "-F", str(self.folder.at("kcat.conf")), *"-q -C -e -o beginning -X isolation.level=read_committed -t".split(), topic)
        return [json.loads(line) for line in listed.splitlines()]

    def write(self, topic, records):
        kcat = ["kcat", "-F", str(self.folder.at("kcat.conf")), "-q", "-P", "-K", "|", "-t", topic]
        run(*kcat, stdin="".join(f"{key}|{json.dumps(value)}\n" for key, value in records))


# --- Redis


class Redis:
    """Speaks TLS only; the user `default` is off."""

    MODES = {
        "server": "--appendonly yes --maxmemory-policy noeviction",
        # One node that has all slots.
        "cluster": "--cluster-enabled yes --tls-cluster yes",
        "sentinel": "--sentinel --tls-replication yes",
    }

    def __init__(self, folder, password, name="redis", mode="server"):
        self.folder, self.password, self.port = folder, password, free_port()
        acl = folder.write(f"{name}-users.acl", f"user default off\nuser admin on >{password} ~* &* +@all\n")
        folder.at(name).mkdir()
        tls = f"--tls-port {self.port} --port 0 --tls-auth-clients no --tls-ca-cert-file {folder.at('known-ca.pem')}"
        keys = f"--tls-cert-file {folder.at('known.crt')} --tls-key-file {folder.at('known.key')}"
        rest = f"--bind 127.0.0.1 --dir {folder.at(name)} --aclfile {acl} {self.MODES[mode]}"
        # By itself the bus would be 10,000 above, among the ports which the kernel gives out.
        rest += f" --cluster-port {free_port()}" if mode == "cluster" else ""
        # A Sentinel writes down there what it knows.
        own = [str(folder.write(f"{name}.conf", ""))] if mode == "sentinel" else []
        folder.start(name, ["redis-server", *own, *f"{tls} {keys} {rest}".split(), "--save", ""])
        eventually("Redis", self.answers, lambda: folder.tail(name))
        if mode == "cluster":
            self.admin("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            eventually("the cluster", lambda: "cluster_state:ok" in self.admin("CLUSTER", "INFO"), lambda: folder.tail(name))

    def answers(self):
        try:
            return self.admin("PING") == "PONG"
        except RuntimeError:
            return False

    def admin(self, *command):
        connect = f"redis-cli --no-auth-warning --tls --cacert {self.folder.at('known-ca.pem')} -h 127.0.0.1 -p {self.port} --user admin"
        # The password goes by the environment: the command line is everybody's.
        answer = run(*connect.split(), *command, environment={"REDISCLI_AUTH": self.password}).strip()
        if answer.startswith(("ERR", "NOAUTH", "NOPERM", "WRONGPASS")):
            raise RuntimeError(f"redis-cli {command[0]}: {answer}")
        return answer

    def url(self, user, password):
        return f"rediss://{user}:{password}@127.0.0.1:{self.port}"


# --- the worker


class Worker:
    """A process of the real binary."""

    def __init__(self, folder, binary, name, config, environment=None, arguments=("run",)):
        self.folder, self.name = folder, name
        self.process = folder.start(name, [str(binary), *arguments, "--config", str(config)], environment)

    def log(self):
        return self.folder.log(self.name)

    def address(self):
        found = re.search(r'"http":"([^"]+)"', self.log())
        if not found and self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended\n{self.log()}")
        return found and found.group(1)

    def get(self, path):
        address = eventually(f"{self.name} listens", self.address, self.log)
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended\n{self.log()}") from None
            raise

    def metric(self, line):
        return re.search(f"^{re.escape(line)}$", self.get("/metrics")[1], re.MULTILINE)

    def await_ready(self):
        eventually(f"{self.name} is ready", lambda: self.get("/readyz")[0] == 200, self.log)

    def await_log(self, text, times=1):
        eventually(f"{self.name} says {text!r}", lambda: self.log().count(text) >= times, self.log)

    def ended(self):
        """The exit code, once it has ended by itself."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{self.name} did not end\n{self.log()}") from None

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.ended()


def documented(language, whose):
    """The commands of the documentation's block that is marked so."""
    text = (ROOT / "docs/security.md").read_text()
    block = re.search(rf"^```{language} {whose}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return block.group(1).splitlines()


def missing():
    """Programs that are not there."""
    return [program for program in ("java", "openssl", "redis-server", "redis-cli", "kcat") if not shutil.which(program)]
