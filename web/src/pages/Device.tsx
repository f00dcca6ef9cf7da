import { useMutation, useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { decideDevice, deviceCode } from "../api/account";
import { Problem } from "../api/client";
import { identity } from "../api/queries";
import type { DeviceCodeDetail } from "../api/types";
import { sentence } from "../forms/problems";
import { useNow } from "../hooks/useNow";
import { Button, Card, Failure, Note, Select, TextField } from "../ui/controls";
import { ago, duration } from "../util/format";

/** Letters of a code; what looks like another letter is not among them. */
const LETTERS = /[BCDFGHJKLMNPQRSTVWXZ]/g;
const LENGTH = 8;

/** A program on some machine wants to be let in, and shows a code: is it one's own? */
export function Device() {
  const given = plain(new URLSearchParams(location.search).get("code") ?? "");
  const [code, setCode] = useState(given.length === LENGTH ? given : "");
  const asked = useQuery(deviceCode(code));
  useEffect(() => {
    document.title = "Let a program in · Boatyard";
  }, []);
  const wrong = asked.isError && asked.error instanceof Problem && asked.error.status < 500;
  return (
    <div className="mx-auto grid w-full max-w-md gap-5">
      <h1 className="text-xl font-semibold">Let a program in</h1>
      {(!code || wrong) && (
        <Ask
          given={code || given}
          problem={wrong ? sentence(asked.error) : undefined}
          ask={setCode}
        />
      )}
      {code && asked.isLoading && <p className="text-sm text-faint">Looking for the code…</p>}
      {asked.isError && !wrong && <Failure cause={asked.error} />}
      {code && asked.isSuccess && (
        <Decide key={code} code={code} found={asked.data} again={() => setCode("")} />
      )}
    </div>
  );
}

/** Only the letters, as the server has them. */
function plain(text: string): string {
  return (text.toUpperCase().match(LETTERS) ?? []).join("").slice(0, LENGTH);
}

/** As programs show it. */
function shown(code: string): string {
  return code.length > 4 ? `${code.slice(0, 4)}-${code.slice(4)}` : code;
}

function Ask({
  given,
  problem,
  ask,
}: {
  given: string;
  problem?: string;
  ask: (code: string) => void;
}) {
  const [code, setCode] = useState(given);
  const whole = code.length === LENGTH;
  return (
    <Card className="p-5">
      <form
        className="grid gap-4"
        onSubmit={(event) => {
          event.preventDefault();
          if (whole) ask(code);
        }}
      >
        <TextField
          label="Code"
          autoComplete="one-time-code"
          autoCapitalize="characters"
          spellCheck={false}
          placeholder="BCDF-GHJK"
          className="font-mono text-lg tracking-widest uppercase"
          value={shown(code)}
          problem={problem && code === given ? problem : undefined}
          hint="Eight letters, as the program shows them."
          onChange={(event) => setCode(plain(event.target.value))}
        />
        <Button type="submit" look="main" disabled={!whole}>
          Go on
        </Button>
      </form>
    </Card>
  );
}

function Decide({
  code,
  found,
  again,
}: {
  code: string;
  found: DeviceCodeDetail;
  again: () => void;
}) {
  const who = useQuery(identity);
  const now = useNow(true);
  const [chosen, setChosen] = useState<string>();
  const organization = chosen ?? who.data?.organization ?? "";
  const decide = useMutation({
    mutationFn: (approve: boolean) => decideDevice(code, approve, organization),
  });
  const state = decide.isSuccess ? (decide.variables ? "approved" : "denied") : found.state;
  const left = Date.parse(found.expires) - now;
  if (state === "pending" && left <= 0) {
    return (
      <Over
        text="The code is too old. Start again in the program: it shows a new one."
        again={again}
      />
    );
  }
  if (state === "approved") {
    return (
      <div role="status">
        <Note tone="good">
          <strong>{found.client}</strong> is let in. You can close this page and go back to it. Its
          key is among your API keys, where you can revoke it.
        </Note>
      </div>
    );
  }
  if (state === "denied") {
    return <Over text={`${found.client} is not let in.`} again={again} />;
  }
  if (state === "expired") {
    return (
      <Over
        text="The code is too old. Start again in the program: it shows a new one."
        again={again}
      />
    );
  }
  const organizations = who.data?.organizations ?? [];
  return (
    <Card className="grid gap-4 p-5">
      <p className="text-sm">
        <strong>{found.client}</strong> wants to act as <strong>{who.data?.name ?? "you"}</strong>.
        Does it show this code?
      </p>
      <p className="rounded-lg bg-sunken py-3 text-center font-mono text-2xl tracking-widest">
        {shown(code)}
      </p>
      <dl className="grid grid-cols-[auto_1fr] gap-x-4 gap-y-1.5 text-sm">
        <dt className="text-faint">From</dt>
        <dd className="min-w-0">{found.address ?? "an address that is not known"}</dd>
        {found.agent && (
          <>
            <dt className="text-faint">Program</dt>
            <dd className="min-w-0">{found.agent}</dd>
          </>
        )}
        <dt className="text-faint">Asked</dt>
        <dd>
          {ago(found.created, now)}; the code is good for {duration(left)}
        </dd>
        <dt className="text-faint">May</dt>
        <dd className="min-w-0">{allowed(found.scopes)}</dd>
      </dl>
      {organizations.length > 1 && (
        <Select
          label="In the organization"
          value={organization}
          onChange={(event) => setChosen(event.target.value)}
        >
          {organizations.map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </Select>
      )}
      <Note tone="warn">
        Approve only what you have started yourself just now. Nobody has a reason to send you a
        code.
      </Note>
      {decide.isError && <Failure cause={decide.error} />}
      <div className="grid grid-cols-2 gap-3">
        <Button look="bad" disabled={decide.isPending} onClick={() => decide.mutate(false)}>
          Deny
        </Button>
        <Button look="main" disabled={decide.isPending} onClick={() => decide.mutate(true)}>
          Approve
        </Button>
      </div>
    </Card>
  );
}

function Over({ text, again }: { text: string; again: () => void }) {
  return (
    <div className="grid gap-4">
      <div role="status">
        <Note tone="warn">{text}</Note>
      </div>
      <Button onClick={again}>Another code</Button>
    </div>
  );
}

/** What a key with these scopes may do, in words. */
function allowed(scopes: readonly string[]): string {
  if (scopes.includes("all")) return "do everything that you may";
  const words = scopes.map((scope) => {
    if (scope === "approve") return "answer agents that ask";
    if (scope === "account") return "change your account";
    const at = scope.lastIndexOf("_");
    return `${scope.endsWith("_write") ? "change" : "read"} ${scope.slice(0, at)}`;
  });
  return words.join(", ") || "nothing";
}
