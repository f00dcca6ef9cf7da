import { useMutation, useQuery } from "@tanstack/react-query";
import { type ReactNode, useEffect, useState } from "react";
import {
  accounts,
  addPasskey,
  changePassword,
  devices,
  passkeys,
  removeAccount,
  removePasskey,
  signOutDevice,
  signOutOthers,
  startAt,
  ways,
} from "../api/account";
import { client, identity, signOut } from "../api/queries";
import type { Device, ProviderWay } from "../api/types";
import { PASSWORD_MIN } from "../forms/AccountFields";
import { sorted } from "../forms/problems";
import { useNow } from "../hooks/useNow";
import {
  Badge,
  Button,
  ButtonLink,
  Card,
  Failure,
  Note,
  PasswordField,
  TextField,
} from "../ui/controls";
import { browser } from "../util/browser";
import { ago } from "../util/format";
import { passkeysMissing } from "../util/passkeys";
import { refusal } from "../util/refusals";

/** One's own account: where one is signed in, and how one signs in. */
export function Account() {
  const who = useQuery(identity);
  const open = useQuery(ways);
  useEffect(() => {
    document.title = "Account · Boatyard";
  }, []);
  const people = open.data?.state === "people";
  const refused = new URLSearchParams(location.search).get("refused");
  return (
    <div className="mx-auto grid w-full max-w-2xl gap-6">
      <div>
        <h1 className="text-xl font-semibold">Account</h1>
        {who.data && (
          <p className="text-sm text-soft">
            {[who.data.name, who.data.email].filter(Boolean).join(" · ")}
          </p>
        )}
      </div>
      {refused && (
        <div role="alert">
          <Note tone="warn">{refusal(refused)}</Note>
        </div>
      )}
      <Part title="Where you are signed in">
        <Devices />
      </Part>
      {people && open.data?.password && (
        <Part title="Password">
          <Password />
        </Part>
      )}
      {people && !!open.data?.providers.length && (
        <Part title="Accounts elsewhere">
          <Accounts providers={open.data.providers} />
        </Part>
      )}
      {people && open.data?.passkeys && (
        <Part title="Passkeys">
          <Passkeys />
        </Part>
      )}
    </div>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section aria-label={title} className="grid gap-3">
      <h2 className="font-medium">{title}</h2>
      {children}
    </section>
  );
}

function Devices() {
  const asked = useQuery(devices);
  const others = useMutation({
    mutationFn: signOutOthers,
    onSettled: () => client.invalidateQueries({ queryKey: devices.queryKey }),
  });
  if (asked.isPending) return <p className="text-sm text-faint">Reading your devices…</p>;
  if (asked.isError) return <Failure cause={asked.error} />;
  return (
    <>
      <Card>
        <ul className="divide-y divide-line">
          {asked.data.items.map((device) => (
            <li key={device.id} className="px-4 py-3">
              <Row device={device} />
            </li>
          ))}
        </ul>
      </Card>
      {others.isError && <Failure cause={others.error} />}
      {asked.data.items.length > 1 && (
        <Button
          look="bad"
          className="w-fit"
          disabled={others.isPending}
          onClick={() => others.mutate()}
        >
          {others.isPending ? "Signing out…" : "Sign out everywhere else"}
        </Button>
      )}
    </>
  );
}

function Row({ device }: { device: Device }) {
  const now = useNow(true, 30_000);
  const name = browser(device.program);
  const leave = useMutation({
    mutationFn: () => (device.current ? signOut() : signOutDevice(device.id)),
    onSettled: () => client.invalidateQueries({ queryKey: devices.queryKey }),
  });
  return (
    <div className="flex flex-wrap items-center gap-x-3 gap-y-2 text-sm">
      <div className="min-w-0 flex-1">
        <p className="flex flex-wrap items-center gap-2 font-medium">
          {name}
          {device.current && (
            <Badge tone="good" sign="●">
              This one
            </Badge>
          )}
        </p>
        <p className="text-faint">
          {[device.address, `seen ${ago(device.last_seen, now)}`, `by ${device.way}`]
            .filter(Boolean)
            .join(" · ")}
        </p>
      </div>
      <Button
        aria-label={`Sign out ${name}${device.current ? ", this one" : ""}`}
        disabled={leave.isPending}
        onClick={() => leave.mutate()}
      >
        Sign out
      </Button>
      {leave.isError && <Failure cause={leave.error} />}
    </div>
  );
}

function Password() {
  const [current, setCurrent] = useState("");
  const [password, setPassword] = useState("");
  const change = useMutation({
    mutationFn: () => changePassword(password, current || undefined),
    onSuccess: () => {
      setCurrent("");
      setPassword("");
      return client.invalidateQueries({ queryKey: devices.queryKey });
    },
  });
  const { at, rest } = sorted(change.error, ["current", "password"]);
  return (
    <Card className="p-4">
      <form
        className="grid gap-4"
        onSubmit={(event) => {
          event.preventDefault();
          change.mutate();
        }}
      >
        <PasswordField
          label="Present password"
          autoComplete="current-password"
          value={current}
          problem={at("current")}
          hint="Leave it empty if you have none yet."
          onChange={(event) => setCurrent(event.target.value)}
        />
        <PasswordField
          label="New password"
          autoComplete="new-password"
          value={password}
          problem={at("password")}
          hint={`At least ${PASSWORD_MIN} characters. Your other devices are signed out.`}
          onChange={(event) => setPassword(event.target.value)}
        />
        {!!rest && <Failure cause={rest} />}
        <div className="flex flex-wrap items-center gap-3">
          <Button type="submit" disabled={change.isPending || password.length < PASSWORD_MIN}>
            {change.isPending ? "Changing…" : "Change the password"}
          </Button>
          {change.isSuccess && !password && (
            <span role="status" className="text-sm text-good">
              It is changed.
            </span>
          )}
        </div>
      </form>
    </Card>
  );
}

/** Those of providers, by which one signs in, too. */
function Accounts({ providers }: { providers: readonly ProviderWay[] }) {
  const asked = useQuery(accounts);
  const now = useNow(true, 30_000);
  const remove = useMutation({
    mutationFn: removeAccount,
    onSettled: () => client.invalidateQueries({ queryKey: accounts.queryKey }),
  });
  if (asked.isPending) return <p className="text-sm text-faint">Reading your accounts…</p>;
  if (asked.isError) return <Failure cause={asked.error} />;
  const linked = asked.data.items;
  const label = (name: string) => providers.find((one) => one.name === name)?.label ?? name;
  const others = providers.filter(({ name }) => !linked.some((one) => one.provider === name));
  return (
    <>
      {linked.length > 0 && (
        <Card>
          <ul className="divide-y divide-line">
            {linked.map((account) => (
              <Kept
                key={account.id}
                name={label(account.provider)}
                about={`${account.email ?? account.name} · used ${ago(account.last_used, now)}`}
                busy={remove.isPending}
                onRemove={() => remove.mutate(account.id)}
              />
            ))}
          </ul>
        </Card>
      )}
      {remove.isError && <Failure cause={remove.error} />}
      <div className="flex flex-wrap gap-3">
        {others.map(({ name, label }) => (
          <ButtonLink key={name} href={startAt(name, { link: true })}>
            Sign in with {label}, too
          </ButtonLink>
        ))}
      </div>
    </>
  );
}

/** One of several ways to sign in, which may be removed. */
function Kept(props: { name: string; about: string; busy: boolean; onRemove: () => void }) {
  return (
    <li className="flex flex-wrap items-center gap-3 px-4 py-3 text-sm">
      <div className="min-w-0 flex-1">
        <p className="font-medium">{props.name}</p>
        <p className="text-faint">{props.about}</p>
      </div>
      <Button
        look="bad"
        aria-label={`Remove ${props.name}`}
        disabled={props.busy}
        onClick={props.onRemove}
      >
        Remove
      </Button>
    </li>
  );
}

function Passkeys() {
  const asked = useQuery(passkeys);
  const [name, setName] = useState("");
  const missing = passkeysMissing();
  const now = useNow(true, 30_000);
  const again = () => client.invalidateQueries({ queryKey: passkeys.queryKey });
  const add = useMutation({
    mutationFn: () => addPasskey(name.trim()),
    onSuccess: () => {
      setName("");
      return again();
    },
  });
  const remove = useMutation({ mutationFn: removePasskey, onSettled: again });
  if (asked.isPending) return <p className="text-sm text-faint">Reading your passkeys…</p>;
  if (asked.isError) return <Failure cause={asked.error} />;
  return (
    <>
      {asked.data.items.length > 0 && (
        <Card>
          <ul className="divide-y divide-line">
            {asked.data.items.map((passkey) => (
              <Kept
                key={passkey.id}
                name={passkey.name}
                about={
                  passkey.last_used
                    ? `used ${ago(passkey.last_used, now)}`
                    : `made ${ago(passkey.created, now)}, not used yet`
                }
                busy={remove.isPending}
                onRemove={() => remove.mutate(passkey.id)}
              />
            ))}
          </ul>
        </Card>
      )}
      {remove.isError && <Failure cause={remove.error} />}
      <Card className="p-4">
        <form
          className="grid gap-4"
          onSubmit={(event) => {
            event.preventDefault();
            add.mutate();
          }}
        >
          <TextField
            label="Name of a new passkey"
            autoComplete="off"
            maxLength={80}
            placeholder="Laptop"
            value={name}
            hint={missing ?? "Your device keeps it and asks you for a finger, a face or a PIN."}
            onChange={(event) => setName(event.target.value)}
          />
          {add.isError && <Failure cause={add.error} />}
          <Button type="submit" className="w-fit" disabled={add.isPending || !!missing}>
            {add.isPending ? "Waiting for your device…" : "Add a passkey"}
          </Button>
        </form>
      </Card>
    </>
  );
}
