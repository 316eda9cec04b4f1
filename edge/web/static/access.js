// The token, and requests that carry it. It comes behind # in the address, which is sent to no server, or is asked for.
const KEY = "harrier-token";
const found = /[#&]token=([^&]+)/.exec(location.hash);
if (found) {
  sessionStorage.setItem(KEY, decodeURIComponent(found[1]));
  history.replaceState(null, "", location.pathname);
}

export const token = () => sessionStorage.getItem(KEY) || "";

function headers(more = {}) {
  return token() ? { ...more, Authorization: `Bearer ${token()}` } : more;
}

export async function get(path) {
  return fetch(path, { headers: headers() });
}

// Ask for a change; returns the answer, or throws an Error that says what is wrong.
export async function post(path, body = {}) {
  const answer = await fetch(path, {
    method: "POST",
    headers: headers({ "Content-Type": "application/json", "X-Harrier": "1" }),
    body: JSON.stringify(body),
  });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.cure ? `${told.error}: ${told.cure}` : told.error);
  return told;
}

export function askForToken(then) {
  const dialog = document.getElementById("token-dialog"), input = document.getElementById("token");
  if (token()) document.getElementById("token-why").textContent = "That was not the right one.";
  sessionStorage.removeItem(KEY);
  const take = () => {
    if (!input.value) return;
    sessionStorage.setItem(KEY, input.value);
    input.value = "";
    dialog.close();
    then();
  };
  document.getElementById("token-ok").onclick = take;
  input.onkeydown = (event) => { if (event.key === "Enter") take(); };
  if (!dialog.open) dialog.showModal();
  input.focus();
}
