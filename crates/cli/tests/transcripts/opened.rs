//! TLS that is opened because a rule looks into it: the tools in a workspace trust what opens it,
//! whether they know of the proxy or not, and are told why where a request is refused.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Output, Stdio},
};

use crate::yard::Yard;

/// What the server takes for its upstream proxy: any name exists there, and speaks TLS.
const WORLD: &str = r#"
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1] + '/leaf.pem', sys.argv[1] + '/leaf.key')
def serve(stream):
    try:
        head = b''
        while b'\r\n\r\n' not in head:
            head += stream.recv(1)
        stream.sendall(b'HTTP/1.1 200 OK\r\n\r\n')
        tls = context.wrap_socket(stream, server_side=True)
        lines = tls.makefile('rb')
        while True:
            line = lines.readline()
            if not line:
                return
            while lines.readline() not in (b'\r\n', b''):
                pass
            body = b'seen: ' + line.split()[1] + b'\n'
            tls.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body))
    except OSError:
        pass
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// The house's authority, and a leaf of it.
const CERTIFICATES: &str = "
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=House' \
  -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=leaf' \
  -keyout leaf.key -out leaf.csr
printf 'subjectAltName=DNS:api.example\\n' > extensions
openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
  -extfile extensions -out leaf.pem
chmod 644 *
";

const NODE: &str = "require('https').get('https://api.example/node', answer => \
                    answer.on('data', data => process.stdout.write(data)))";

const JAVA: &str = "import java.net.*; class Get { public static void main(String[] a) throws \
                    Exception { new URL(\"https://api.example/java\").openStream()\
                    .transferTo(System.out); } }";

struct World {
    yard: Yard,
    id: String,
    child: Child,
}

impl Drop for World {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start() -> World {
    let mut yard = Yard::without_server();
    let folder = yard.path("house");
    std::fs::create_dir(&folder).unwrap();
    let made = Command::new("sh").args(["-ec", CERTIFICATES]).current_dir(&folder).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut child = Command::new("python3")
        .args(["-c", WORLD])
        .arg(&folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let proxy = format!("http://127.0.0.1:{}", port.trim());
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
    let variables = names.map(|name| (name.to_owned(), proxy.clone()));
    yard = yard.with_variables(
        variables.into_iter().chain([("NO_PROXY".into(), "127.0.0.1".into())]).collect(),
    );
    let settings =
        format!("[egress]\npresets = []\nca_file = \"{}\"\n", folder.join("ca.pem").display());
    yard.write("data/boatyard.toml", &settings);
    yard.start_server();
    let id = yard.json(&["workspace", "create"])["id"].as_str().unwrap().to_owned();
    let allow =
        ["egress", "allow", "api.example", "--method", "GET", "--workspace", &id].map(String::from);
    let allow: Vec<&str> = allow.iter().map(String::as_str).collect();
    let allowed = yard.command(&allow).output().unwrap();
    assert!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stderr));
    World { yard, id, child }
}

impl World {
    fn run(&self, command: &str) -> Output {
        let all = ["workspace", "exec", &self.id, "--", "bash", "-c", command];
        self.yard.command(&all).output().unwrap()
    }

    /// Runs it as it is, and without any proxy variable.
    #[track_caller]
    fn sees(&self, command: &str, path: &str) {
        let bare =
            format!("unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY; {command}");
        for command in [command, &bare] {
            let output = self.run(command);
            let said = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(&format!("seen: {path}")), "{command}: {said}{errors}");
        }
    }
}

#[test]
fn the_tools_of_a_workspace_trust_what_opens_their_connections() {
    let world = start();
    world.sees("curl -sS --max-time 20 https://api.example/curl", "/curl");
    // By the bundle of the distribution alone.
    world.sees(
        "env -u SSL_CERT_FILE -u CURL_CA_BUNDLE curl -sS --max-time 20 https://api.example/bare",
        "/bare",
    );
    let fetch = "import urllib.request as u; \
                 print(u.urlopen('https://api.example/python').read().decode())";
    world.sees(&format!("/usr/bin/python3 -c \"{fetch}\""), "/python");
    let has = |program: &str| world.run(&format!("command -v {program}")).status.success();
    if has("wget") {
        world.sees("wget -q -T 20 -O - https://api.example/wget", "/wget");
    }
    if has("node") {
        world.sees(&format!("node -e \"{NODE}\""), "/node");
    }
    if has("java") {
        let java = format!("cat > /tmp/Get.java <<'END'\n{JAVA}\nEND\njava /tmp/Get.java");
        world.sees(&java, "/java");
        // By the store of the distribution alone.
        world.sees(&format!("unset JAVA_TOOL_OPTIONS; {java}"), "/java");
    }
    // What is refused says so, by TLS too.
    for ignore in ["", "-u https_proxy -u HTTPS_PROXY"] {
        let output =
            world.run(&format!("env {ignore} curl -sS --max-time 20 -d x https://api.example/"));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("To allow it: boatyard egress allow api.example"), "{output:?}");
    }
    // Nothing of its key is inside.
    let keys = world.run("ls /etc/boatyard; grep -rl 'PRIVATE KEY' /etc 2>/dev/null");
    assert_eq!(String::from_utf8_lossy(&keys.stdout), "ca-bundle.pem\ncacerts.jks\n");
}
