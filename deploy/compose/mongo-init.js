// Initiates the replica set and creates the user of the shop, unless that is done already. It runs
// in mongosh, connected to the first member.

const { MONGO_MEMBERS, MONGO_ROOT_PASSWORD, MONGO_SOUK_PASSWORD } = process.env;

const admin = db.getSiblingDB("admin");
admin.auth("root", MONGO_ROOT_PASSWORD);

const isInitiated = () => {
  try {
    return rs.status().ok === 1;
  } catch (error) {
    if (error.codeName === "NotYetInitialized") return false;
    throw error;
  }
};

if (!isInitiated()) {
  const members = MONGO_MEMBERS.split(",").map((host, _id) => ({ _id, host }));
  // When the primary is killed, another member takes over after 2 seconds rather than 12.
  rs.initiate({ _id: "souk", members, settings: { electionTimeoutMillis: 1500 } });
}
while (!db.hello().setName || !db.hello().primary) sleep(200);

// The user is created on the primary, wherever that is.
const address = `root:${MONGO_ROOT_PASSWORD}@${MONGO_MEMBERS}/souk`;
const shop = connect(`mongodb://${address}?replicaSet=souk&authSource=admin`);
// It may do nothing to other databases and to the servers.
const user = {
  pwd: MONGO_SOUK_PASSWORD,
  roles: [
    { role: "readWrite", db: "souk" },
    { role: "dbAdmin", db: "souk" },
  ],
};
if (shop.getUser("souk") === null) {
  shop.createUser({ user: "souk", ...user });
} else {
  shop.updateUser("souk", user);
}
print("the replica set and its user are ready");
