import { type ReactNode, useEffect } from "react";

/** The frame of the pages that one sees before one is in. */
export function Doorstep({
  title,
  about,
  children,
}: {
  title: string;
  about?: ReactNode;
  children: ReactNode;
}) {
  useEffect(() => {
    document.title = title === "Boatyard" ? title : `${title} · Boatyard`;
  }, [title]);
  return (
    <main className="mx-auto grid min-h-dvh w-full max-w-md content-center gap-6 px-4 py-10">
      <div className="flex items-center gap-3">
        <img src="/favicon.svg" alt="" width={40} height={40} />
        <div className="min-w-0">
          <h1 className="text-xl font-semibold">{title}</h1>
          {about && <p className="text-sm text-soft">{about}</p>}
        </div>
      </div>
      {children}
    </main>
  );
}

/** A line between two ways, with a word in it. */
export function Or({ children }: { children: ReactNode }) {
  return (
    <div className="flex items-center gap-3 text-xs text-faint">
      <span aria-hidden="true" className="h-px flex-1 bg-line" />
      <span>{children}</span>
      <span aria-hidden="true" className="h-px flex-1 bg-line" />
    </div>
  );
}
