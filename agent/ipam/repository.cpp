// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/repository.h"

#include "agent/api/names.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>
#include <utility>

namespace manx::ipam {

using datastore::Key;
using datastore::Object;
using datastore::Store;

namespace {

// How each kind is read and written; the functions below are the same for all of them.
struct BlockCodec {
    using Value = Block;
    static constexpr api::Kind kKind = api::Kind::IpamBlock;

    static Result<Block> read(const nlohmann::json& object) {
        TRY_ASSIGN(auto data, api::IpamBlock::from_json(object));
        return Block(std::move(data));
    }

    static Result<nlohmann::json> write(const Block& block) { return block.data().to_json(); }

    static std::string name(const Block& block) { return api::block_name(block.cidr()); }

    static bool deleted(const Block& block) { return block.data().deleted; }
};

template <typename T, api::Kind kind>
struct PlainCodec {
    using Value = T;
    static constexpr api::Kind kKind = kind;

    static Result<T> read(const nlohmann::json& object) { return T::from_json(object); }

    static Result<nlohmann::json> write(const T& value) { return value.to_json(); }

    static bool deleted(const T& value) { return value.deleted; }
};

struct AffinityCodec : PlainCodec<api::BlockAffinity, api::Kind::BlockAffinity> {
    static std::string name(const api::BlockAffinity& value) {
        return api::affinity_name(value.node, value.cidr);
    }
};

struct HandleCodec : PlainCodec<api::IpamHandle, api::Kind::IpamHandle> {
    static std::string name(const api::IpamHandle& value) {
        return api::handle_name(value.handle_id);
    }
};

template <typename Codec>
Result<Stored<typename Codec::Value>> decode(const Object& object) {
    auto json = api::parse_json(object.json);
    if (!json) {
        return Unexpected(json.error().within(object.key.text()));
    }
    TRY_ASSIGN(auto value, Codec::read(*json)); // its error names the object
    if constexpr (Codec::kKind == api::Kind::IpamBlock) {
        // The name says which addresses it is about; what is written goes to that of the CIDR.
        if (Codec::name(value) != object.key.name) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("{}: spec.cidr: {}: expected the block of its name",
                                    object.key.text(), value.cidr().text()));
        }
    }
    return Stored<typename Codec::Value>{std::move(value), object.resource_version, object.uid};
}

void finish_delete(Store& store, const Object& object) {
    // Whoever comes next tries again, if this fails.
    (void)store.remove(object.key, {object.uid, object.resource_version});
}

template <typename Codec>
Result<Stored<typename Codec::Value>> get(Store& store, std::string name) {
    Key key{Codec::kKind, "", std::move(name)};
    TRY_ASSIGN(auto object, store.get(key));
    auto stored = decode<Codec>(object);
    if (!stored) {
        return stored;
    }
    if (Codec::deleted(stored->value)) {
        finish_delete(store, object);
        return fail(ErrorKind::NotFound, key.text() + " does not exist");
    }
    return stored;
}

template <typename Codec>
Result<std::vector<Stored<typename Codec::Value>>>
list(Store& store, const datastore::ListOptions& options, LeftOut* left_out) {
    TRY_ASSIGN(auto found, store.list(Codec::kKind, options));
    std::vector<Stored<typename Codec::Value>> all;
    all.reserve(found.objects.size());
    LeftOut out;
    for (const Object& object : found.objects) {
        auto stored = decode<Codec>(object);
        if (!stored) {
            out.broken.push_back(stored.error().text());
            if (Codec::kKind == api::Kind::IpamBlock) {
                out.broken_blocks.insert(object.key.name);
            }
        } else if (Codec::deleted(stored->value)) {
            out.deleted.push_back({object.key, object.resource_version, object.uid});
        } else {
            all.push_back(std::move(*stored));
        }
    }
    if (left_out != nullptr) {
        std::ranges::move(out.broken, std::back_inserter(left_out->broken));
        std::ranges::move(out.deleted, std::back_inserter(left_out->deleted));
        left_out->broken_blocks.merge(out.broken_blocks);
    }
    return all;
}

template <typename Codec>
Result<Stored<typename Codec::Value>> create_object(Store& store,
                                                    const typename Codec::Value& value) {
    Key key{Codec::kKind, "", Codec::name(value)};
    TRY_ASSIGN(auto json, Codec::write(value));
    auto created = store.create(key, json);
    if (!created && created.error().kind == ErrorKind::AlreadyExists) {
        // It may only be waiting for its delete to be finished.
        if (auto there = get<Codec>(store, key.name);
            !there && there.error().kind == ErrorKind::NotFound) {
            created = store.create(key, json);
        }
    }
    if (!created) {
        return Unexpected(created.error());
    }
    return Stored<typename Codec::Value>{value, created->resource_version, created->uid};
}

template <typename Codec>
Result<void> write_object(Store& store, Stored<typename Codec::Value>& stored) {
    Key key{Codec::kKind, "", Codec::name(stored.value)};
    TRY_ASSIGN(auto json, Codec::write(stored.value));
    json["metadata"]["resourceVersion"] = stored.resource_version;
    TRY_ASSIGN(auto written, store.update(key, json));
    stored.resource_version = std::move(written.resource_version);
    return {};
}

template <typename Codec>
Result<void> remove_object(Store& store, const Stored<typename Codec::Value>& stored) {
    return store.remove(Key{Codec::kKind, "", Codec::name(stored.value)},
                        {stored.uid, stored.resource_version});
}

} // namespace

BlockOwner BlockOwner::parse(std::string_view affinity) {
    BlockOwner owner;
    auto colon = affinity.find(':');
    if (colon != std::string_view::npos) {
        owner.type = affinity.substr(0, colon);
        owner.name = affinity.substr(colon + 1);
    }
    return owner;
}

Result<Stored<Block>> Repository::block(const Cidr& cidr) const {
    return get<BlockCodec>(store_, api::block_name(cidr));
}

Result<std::vector<Stored<Block>>> Repository::blocks(LeftOut* left_out) const {
    return list<BlockCodec>(store_, {}, left_out);
}

Result<std::vector<BlockSummary>> Repository::block_summaries(std::span<const Cidr> reservations,
                                                              Time now,
                                                              std::chrono::seconds cooldown) const {
    TRY_ASSIGN(auto found, store_.list(api::Kind::IpamBlock));
    std::vector<BlockSummary> all;
    all.reserve(found.objects.size());
    for (Object& object : found.objects) {
        auto stored = decode<BlockCodec>(object);
        object.json = {};
        if (!stored) {
            if (auto cidr = api::block_of_name(object.key.name)) {
                BlockSummary unreadable;
                unreadable.cidr = *cidr;
                all.push_back(std::move(unreadable));
            }
            continue;
        }
        if (stored->value.data().deleted) {
            continue;
        }
        Block& block = stored->value;
        (void)block.collect(now, cooldown);
        all.push_back({block.cidr(), block.affinity(), block.data().affinity_claim_time,
                       block.data().sequence_number, block.free_count(reservations), block.empty(),
                       block.cooling()});
    }
    return all;
}

Result<std::optional<Cidr>> Repository::overlapping(const Cidr& cidr) const {
    TRY_ASSIGN(auto found, store_.list(api::Kind::IpamBlock));
    for (const Object& object : found.objects) {
        auto other = api::block_of_name(object.key.name);
        if (!other || *other == cidr || !other->overlaps(cidr)) {
            continue;
        }
        auto there = block(*other); // it may only be waiting for its delete to be finished
        if (there || there.error().kind == ErrorKind::ConfigInvalid) {
            return other;
        }
        if (there.error().kind != ErrorKind::NotFound) {
            return Unexpected(there.error());
        }
    }
    return std::optional<Cidr>();
}

Result<Stored<Block>> Repository::create(const Block& block) const {
    return create_object<BlockCodec>(store_, block);
}

Result<void> Repository::write(Stored<Block>& block) const {
    block.value.begin_write();
    return write_object<BlockCodec>(store_, block);
}

Result<void> Repository::remove(const Stored<Block>& block) const {
    return remove_object<BlockCodec>(store_, block);
}

Result<Stored<api::BlockAffinity>> Repository::affinity(const BlockOwner& owner,
                                                        const Cidr& cidr) const {
    return get<AffinityCodec>(store_, api::affinity_name(owner.name, cidr));
}

Result<std::vector<Stored<api::BlockAffinity>>> Repository::affinities(LeftOut* left_out) const {
    return list<AffinityCodec>(store_, {}, left_out);
}

Result<std::vector<Stored<api::BlockAffinity>>> Repository::affinities_of(const BlockOwner& owner,
                                                                          Family family) const {
    datastore::ListOptions options;
    options.labels = api::affinity_labels(owner.name, owner.type, family);
    return list<AffinityCodec>(store_, options, nullptr);
}

Result<Stored<api::BlockAffinity>> Repository::create(const api::BlockAffinity& value) const {
    return create_object<AffinityCodec>(store_, value);
}

Result<void> Repository::write(Stored<api::BlockAffinity>& affinity) const {
    return write_object<AffinityCodec>(store_, affinity);
}

Result<void> Repository::remove(const Stored<api::BlockAffinity>& affinity) const {
    return remove_object<AffinityCodec>(store_, affinity);
}

Result<Stored<api::IpamHandle>> Repository::handle(std::string_view id) const {
    return get<HandleCodec>(store_, api::handle_name(id));
}

Result<std::vector<Stored<api::IpamHandle>>> Repository::handles(LeftOut* left_out) const {
    return list<HandleCodec>(store_, {}, left_out);
}

Result<Stored<api::IpamHandle>> Repository::create(const api::IpamHandle& value) const {
    return create_object<HandleCodec>(store_, value);
}

Result<void> Repository::write(Stored<api::IpamHandle>& handle) const {
    return write_object<HandleCodec>(store_, handle);
}

Result<void> Repository::remove(const Stored<api::IpamHandle>& handle) const {
    return remove_object<HandleCodec>(store_, handle);
}

Result<void> Repository::finish_delete(const MarkedDeleted& marked) const {
    return store_.remove(marked.key, {marked.uid, marked.resource_version});
}

} // namespace manx::ipam
