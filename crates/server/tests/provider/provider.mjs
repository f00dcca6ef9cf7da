// A real OpenID provider (https://github.com/panva/node-oidc-provider) on loopback, for tests of
// signing in. It speaks what GitHub speaks too: the same codes and tokens, at GitHub's addresses,
// and the part of GitHub's API that tells who somebody is.
//
// argv: the folder with `cert.pem` and `key.pem`, the callback addresses. It says where it listens on its
// first line, and ends with its standard input.
//
// Nobody types here: who signs in is named by `login_hint` in the address, and is in `accounts`.
// `POST /control` changes accounts, and makes the provider answer nonsense.
import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { join } from "node:path";
import Provider from "oidc-provider";

const [, , folder, oidcCallback, githubCallback] = process.argv;
const accounts = {};
let mode = "good";

const key = (kid) => {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid, use: "sig", alg: "RS256" };
};
const publicOf = ({ kty, kid, use, alg, n, e }) => ({ kty, kid, use, alg, n, e });
const own = key("one");
const another = publicOf(key("one"));

const client = (client_id, callback, method) => ({
  client_id,
  client_secret: "a made-up secret of the provider's client",
  redirect_uris: [callback],
  response_types: ["code"],
  grant_types: ["authorization_code"],
  token_endpoint_auth_method: method,
});

const configuration = {
  clients: [
    client("boatyard", oidcCallback, "client_secret_basic"),
    client("github-app", githubCallback, "client_secret_post"),
  ],
  jwks: { keys: [own] },
  cookies: { keys: ["a key of a test"] },
  pkce: { required: () => true },
  routes: { authorization: "/login/oauth/authorize", token: "/login/oauth/access_token" },
  scopes: ["openid", "email", "profile", "groups", "read:user", "user:email", "read:org"],
  claims: {
    openid: ["sub"],
    email: ["email", "email_verified"],
    profile: ["name"],
    groups: ["groups"],
  },
  features: { devInteractions: { enabled: false }, userinfo: { enabled: true } },
  interactions: { url: (_, { uid }) => `/interaction/${uid}` },
  findAccount: (_, id) =>
    accounts[id] && { accountId: accounts[id].sub ?? id, claims: () => ({ sub: accounts[id].sub ?? id, ...accounts[id] }) },
  async loadExistingGrant({ oidc }) {
    const grant = new oidc.provider.Grant({
      clientId: oidc.client.clientId,
      accountId: oidc.session.accountId,
    });
    grant.addOIDCScope("openid email profile groups read:user user:email read:org");
    await grant.save();
    return grant;
  },
};

const read = async (request) => {
  let text = "";
  for await (const piece of request) text += piece;
  return text;
};

const server = createServer({
  cert: readFileSync(join(folder, "cert.pem")),
  key: readFileSync(join(folder, "key.pem")),
});
server.listen(0, "127.0.0.1", () => {
  const issuer = `https://localhost:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  const serve = provider.callback();
  const json = (response, value, status = 200) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(value));
  };

  const github = async (path, request, response) => {
    const bearer = (request.headers.authorization ?? "").replace(/^Bearer /, "");
    const token = await provider.AccessToken.find(bearer);
    if (!token) return json(response, { message: "Bad credentials" }, 401);
    const account = accounts[token.accountId];
    const scopes = new Set((token.scope ?? "").split(" "));
    const has = (scope) => scopes.has(scope);
    if (path === "/user" && has("read:user")) {
      return json(response, { id: account.number, login: token.accountId, name: account.name });
    }
    if (path === "/user/emails" && has("user:email")) {
      return json(response, account.emails ?? []);
    }
    if (path === "/user/orgs" && has("read:org")) {
      return json(response, (account.groups ?? []).map((login) => ({ login })));
    }
    if (path === "/user/teams" && has("read:org")) {
      const teams = (account.teams ?? []).map((team) => team.split("/"));
      return json(response, teams.map(([login, slug]) => ({ slug, organization: { login } })));
    }
    json(response, { message: "Not Found" }, 404);
  };

  server.on("request", async (request, response) => {
    const { pathname } = new URL(request.url, issuer);
    if (pathname === "/control") {
      const wanted = JSON.parse(await read(request));
      Object.assign(accounts, wanted.accounts ?? {});
      mode = wanted.mode ?? mode;
      return json(response, {});
    }
    if (mode === "down") return json(response, { error: "server_error" }, 503);
    const document = pathname === "/.well-known/openid-configuration";
    if (mode === "text" && document) return response.end("<html>hello</html>");
    if (mode === "another" && document) {
      return json(response, { issuer: "https://elsewhere.example" });
    }
    if (mode === "no-token" && pathname === "/login/oauth/access_token") {
      return json(response, { token_type: "Bearer" });
    }
    if (mode === "other-key" && pathname === "/jwks") return json(response, { keys: [another] });
    if (pathname === "/api/v3/meta") return json(response, {});
    if (pathname.startsWith("/api/v3/")) {
      return github(pathname.slice("/api/v3".length), request, response);
    }
    if (pathname.startsWith("/interaction/")) {
      const { params } = await provider.interactionDetails(request, response);
      const id = params.login_hint;
      const outcome = accounts[id]
        ? { login: { accountId: id } }
        : { error: "access_denied", error_description: "nobody" };
      return provider.interactionFinished(request, response, outcome);
    }
    serve(request, response);
  });
  console.log(JSON.stringify({ issuer }));
});

process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
