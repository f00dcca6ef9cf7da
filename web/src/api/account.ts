/** How people sign in, and what belongs to their account: what is asked for, and what is changed. */
import { queryOptions } from "@tanstack/react-query";
import { createPasskey, provePasskey } from "../util/passkeys";
import { api, remember, unwrap } from "./client";
import { client, identity } from "./queries";
import type { Identity, NewAccount, Setup } from "./types";

/** How one may sign in here. */
export const ways = queryOptions({
  queryKey: ["ways"],
  queryFn: () => unwrap(api.GET("/api/auth/ways")),
});

/** What an invitation is to. */
export const invitation = (code: string) =>
  queryOptions({
    queryKey: ["invitation", code],
    enabled: code !== "",
    queryFn: () => unwrap(api.GET("/api/auth/invitation", { params: { query: { code } } })),
  });

/** A program that wants to be let in. */
export const deviceCode = (code: string) =>
  queryOptions({
    queryKey: ["device-code", code],
    enabled: code !== "",
    staleTime: 0,
    retry: false,
    queryFn: () => unwrap(api.GET("/api/auth/device/{code}", { params: { path: { code } } })),
  });

/** The browsers in which one is signed in. */
export const devices = queryOptions({
  queryKey: ["devices"],
  queryFn: () => unwrap(api.GET("/api/auth/devices")),
});

/** One's accounts at providers. */
export const accounts = queryOptions({
  queryKey: ["accounts"],
  queryFn: () => unwrap(api.GET("/api/auth/accounts")),
});

export const passkeys = queryOptions({
  queryKey: ["passkeys"],
  queryFn: () => unwrap(api.GET("/api/auth/passkeys")),
});

/** From here on the page speaks as this person. What it knew of another one is forgotten. */
function become(found: Identity): Identity {
  remember(found);
  client.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== identity.queryKey[0] });
  client.setQueryData(identity.queryKey, found);
  return found;
}

export async function signInByKey(key: string): Promise<Identity> {
  return become(await unwrap(api.POST("/api/auth/login", { body: { key } })));
}

export async function signInByPassword(email: string, password: string): Promise<Identity> {
  return become(await unwrap(api.POST("/api/auth/login", { body: { email, password } })));
}

export async function signInByPasskey(): Promise<Identity> {
  const { attempt, options } = await unwrap(api.POST("/api/auth/passkeys/login/begin"));
  const credential = await provePasskey(options);
  return become(
    await unwrap(
      api.POST("/api/auth/passkeys/login/finish", {
        body: { attempt, credential: credential as Record<string, never> },
      }),
    ),
  );
}

/** Where a provider's sign-in begins; the browser goes there itself. */
export function startAt(provider: string, asked: { invitation?: string; link?: boolean }): string {
  const query = new URLSearchParams({ next: location.pathname + location.search });
  if (asked.invitation) query.set("invitation", asked.invitation);
  if (asked.link) query.set("link", "true");
  return `/api/auth/start/${encodeURIComponent(provider)}?${query}`;
}

export async function setUp(body: Setup): Promise<Identity> {
  const found = become(await unwrap(api.POST("/api/auth/setup", { body })));
  await client.invalidateQueries({ queryKey: ways.queryKey });
  return found;
}

export async function signUp(body: NewAccount): Promise<Identity> {
  return become(await unwrap(api.POST("/api/auth/sign-up", { body })));
}

export async function acceptInvitation(code: string): Promise<void> {
  const joined = await unwrap(api.POST("/api/invitations/accept", { body: { code } }));
  await switchTo(joined.organization);
}

export async function switchTo(organization: string): Promise<Identity> {
  return become(await unwrap(api.POST("/api/auth/organization", { body: { organization } })));
}

/** Takes what a link gives: for who is signed in, or for this browser. */
export async function takeShare(code: string): Promise<string> {
  const taken = await unwrap(api.POST("/api/auth/guest", { body: { code } }));
  if (taken.guest) await client.invalidateQueries({ queryKey: identity.queryKey });
  return taken.subject;
}

export function decideDevice(code: string, approve: boolean, organization: string) {
  return unwrap(
    api.POST("/api/auth/device/{code}", {
      params: { path: { code } },
      headers: { "X-Boatyard-Organization": organization },
      body: { approve },
    }),
  );
}

export function changePassword(password: string, current?: string) {
  return unwrap(api.POST("/api/auth/password", { body: { password, current: current ?? null } }));
}

export function signOutDevice(id: string) {
  return unwrap(api.DELETE("/api/auth/devices/{id}", { params: { path: { id } } }));
}

export function signOutOthers() {
  return unwrap(api.DELETE("/api/auth/devices", { params: { query: { others: true } } }));
}

export async function addPasskey(name: string): Promise<void> {
  const { attempt, options } = await unwrap(api.POST("/api/auth/passkeys/register/begin"));
  const credential = await createPasskey(options);
  await unwrap(
    api.POST("/api/auth/passkeys/register/finish", {
      body: { attempt, name: name || null, credential: credential as Record<string, never> },
    }),
  );
}

export function removeAccount(id: string) {
  return unwrap(api.DELETE("/api/auth/accounts/{id}", { params: { path: { id } } }));
}

export function removePasskey(id: string) {
  return unwrap(api.DELETE("/api/auth/passkeys/{id}", { params: { path: { id } } }));
}
