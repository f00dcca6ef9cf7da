import { useMutation, useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useEffect, useId, useRef, useState } from "react";
import { switchTo } from "../api/account";
import { identity, signOut } from "../api/queries";
import { Failure } from "../ui/controls";
import { paths } from "../util/paths";

const ITEM =
  "flex min-h-11 w-full items-center gap-2.5 rounded-lg px-3 text-left hover:bg-sunken disabled:opacity-55 sm:min-h-9";

/** Who one is, in which organization, and the way out. */
export function AccountMenu() {
  const who = useQuery(identity).data;
  const [open, setOpen] = useState(false);
  const frame = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const panel = useId();
  const navigate = useNavigate();
  const change = useMutation({
    mutationFn: switchTo,
    onSuccess: () => {
      setOpen(false);
      navigate({ to: paths.tasks() });
    },
  });
  const leave = useMutation({ mutationFn: signOut });

  useEffect(() => {
    if (!open) return;
    const close = (event: Event) => {
      if (!frame.current?.contains(event.target as Node)) setOpen(false);
    };
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      setOpen(false);
      button.current?.focus();
    };
    // A press beside it, or the focus that goes elsewhere.
    document.addEventListener("pointerdown", close);
    document.addEventListener("focusin", close);
    document.addEventListener("keydown", onKey);
    return () => {
      document.removeEventListener("pointerdown", close);
      document.removeEventListener("focusin", close);
      document.removeEventListener("keydown", onKey);
    };
  }, [open]);

  if (!who) return null;
  const organizations = who.organizations ?? [];
  return (
    <div ref={frame} className="relative">
      <button
        ref={button}
        type="button"
        aria-label={`Account of ${who.name}`}
        aria-expanded={open}
        aria-controls={panel}
        className="flex min-h-11 items-center gap-2 rounded-lg px-2 text-sm text-soft hover:bg-sunken hover:text-ink sm:min-h-9"
        onClick={() => setOpen(!open)}
      >
        <span
          aria-hidden="true"
          className="grid size-7 place-items-center rounded-full bg-accent-wash text-xs font-semibold text-accent"
        >
          {initials(who.name)}
        </span>
        <span className="hidden max-w-40 truncate sm:block">
          {organizations.length > 1 ? who.organization_name : who.name}
        </span>
        <span aria-hidden="true">▾</span>
      </button>
      <div
        id={panel}
        hidden={!open}
        className="absolute right-0 z-20 mt-1 w-72 max-w-[calc(100vw-2rem)] rounded-xl border border-line bg-raised p-1.5 text-sm shadow-lg"
      >
        <div className="px-3 py-2">
          <p className="font-medium">{who.name}</p>
          {who.email && <p className="truncate text-faint">{who.email}</p>}
          {organizations.length <= 1 && (
            <p className="truncate text-faint">
              {[who.organization_name, who.role].filter(Boolean).join(" · ")}
            </p>
          )}
        </div>
        {organizations.length > 1 && (
          <section aria-label="Organizations" className="border-t border-line py-1.5">
            <p className="px-3 py-1 text-xs text-faint">Organizations</p>
            <ul>
              {organizations.map(({ id, name, role }) => (
                <li key={id}>
                  <button
                    type="button"
                    aria-current={id === who.organization || undefined}
                    className={ITEM}
                    disabled={change.isPending || id === who.organization}
                    onClick={() => change.mutate(id)}
                  >
                    <span aria-hidden="true" className="w-4 text-accent">
                      {id === who.organization ? "✓" : ""}
                    </span>
                    <span className="min-w-0 flex-1 truncate">{name}</span>
                    <span className="text-xs text-faint">{role}</span>
                  </button>
                </li>
              ))}
            </ul>
          </section>
        )}
        {(change.isError || leave.isError) && <Failure cause={change.error ?? leave.error} />}
        <div className="border-t border-line pt-1.5">
          {who.person && (
            <Link to={paths.account()} className={ITEM} onClick={() => setOpen(false)}>
              Account and devices
            </Link>
          )}
          <button
            type="button"
            className={ITEM}
            disabled={leave.isPending}
            onClick={() => leave.mutate()}
          >
            {leave.isPending ? "Signing out…" : "Sign out"}
          </button>
        </div>
      </div>
    </div>
  );
}

/** The first letters of the first and the last name. */
function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = [words[0], words.length > 1 ? words.at(-1) : undefined];
  return (
    letters
      .map((word) => (word ? [...word][0] : ""))
      .join("")
      .toUpperCase() || "·"
  );
}
