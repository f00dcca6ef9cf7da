import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { signInByKey, signInByPasskey, signInByPassword, startAt } from "../api/account";
import type { Ways as All } from "../api/types";
import { sentence, sorted } from "../forms/problems";
import { Button, ButtonLink, Failure, PasswordField, TextField } from "../ui/controls";
import { passkeysMissing } from "../util/passkeys";
import { Or } from "./Doorstep";

/** Every way of signing in that this server has. */
export function Ways({
  ways,
  invitation,
  email,
}: {
  ways: All;
  /** Whoever has no account yet gets one at a provider by it. */
  invitation?: string;
  email?: string;
}) {
  const others = ways.providers.length > 0 || ways.passkeys;
  return (
    <div className="grid gap-4">
      {ways.providers.map(({ name, label }) => (
        <ButtonLink key={name} href={startAt(name, { invitation })}>
          Continue with {label}
        </ButtonLink>
      ))}
      {ways.passkeys && <ByPasskey />}
      {others && ways.password && <Or>or</Or>}
      {ways.password && <ByPassword first={!others} email={email} />}
      {!others && !ways.password && (
        <p className="text-sm text-soft">
          No way of signing in is switched on. An API key signs in all the same.
        </p>
      )}
    </div>
  );
}

function ByPasskey() {
  const enter = useMutation({ mutationFn: signInByPasskey });
  const missing = passkeysMissing();
  return (
    <div className="grid gap-1.5">
      <Button
        disabled={enter.isPending || !!missing}
        aria-describedby={missing ? "passkey-missing" : undefined}
        onClick={() => enter.mutate()}
      >
        {enter.isPending ? "Waiting for your passkey…" : "Sign in with a passkey"}
      </Button>
      {missing && (
        <p id="passkey-missing" className="text-xs text-faint">
          {missing}
        </p>
      )}
      {enter.isError && <Failure cause={enter.error} />}
    </div>
  );
}

function ByPassword({ first, email: given }: { first: boolean; email?: string }) {
  const [email, setEmail] = useState(given ?? "");
  const [password, setPassword] = useState("");
  const enter = useMutation({ mutationFn: () => signInByPassword(email.trim(), password) });
  const { at, rest } = sorted(enter.error, ["email", "password"]);
  return (
    <form
      className="grid gap-4"
      onSubmit={(event) => {
        event.preventDefault();
        if (email.trim() && password) enter.mutate();
      }}
    >
      <TextField
        label="Email"
        type="email"
        autoComplete="username"
        required
        value={email}
        problem={at("email")}
        onChange={(event) => setEmail(event.target.value)}
      />
      <PasswordField
        label="Password"
        autoComplete="current-password"
        required
        value={password}
        problem={at("password")}
        onChange={(event) => setPassword(event.target.value)}
      />
      {!!rest && <Failure cause={rest} />}
      <Button
        type="submit"
        look={first ? "main" : "plain"}
        disabled={enter.isPending || !email.trim() || !password}
      >
        {enter.isPending ? "Signing in…" : "Sign in"}
      </Button>
    </form>
  );
}

/** With an API key, as programs do. */
export function ByKey({ done }: { done?: () => void }) {
  const [key, setKey] = useState("");
  const enter = useMutation({ mutationFn: () => signInByKey(key.trim()), onSuccess: done });
  return (
    <form
      className="grid gap-4"
      onSubmit={(event) => {
        event.preventDefault();
        if (key.trim()) enter.mutate();
      }}
    >
      <TextField
        label="Key"
        type="password"
        autoComplete="off"
        spellCheck={false}
        placeholder="by_…"
        value={key}
        problem={enter.isError ? sentence(enter.error) : undefined}
        onChange={(event) => setKey(event.target.value)}
      />
      <Button type="submit" look="main" disabled={enter.isPending || !key.trim()}>
        {enter.isPending ? "Signing in…" : "Sign in"}
      </Button>
    </form>
  );
}
