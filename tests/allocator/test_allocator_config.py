import ctypes
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.allocator import UNLIMITED, AllocatorConfig, CachingAllocator
from vramcast.errors import InputError
from vramcast.units import GIB, MIB


def parse(text: str) -> AllocatorConfig:
    return AllocatorConfig.from_environment_string(text)


def test_defaults() -> None:
    config = AllocatorConfig()
    assert parse("") == config
    assert (config.expandable_segments, config.max_split_size, config.large_segment_size) == (
        False,
        UNLIMITED,
        20 * MIB,
    )
    assert config.per_process_memory_fraction == 1.0 and config.garbage_collection_threshold == 0.0


def test_several_settings_with_spaces_and_ignored_ones() -> None:
    config = parse(" expandable_segments:True, max_split_size_mb:128 ,pinned_num_register_threads:4,backend:native,")
    assert config == AllocatorConfig(expandable_segments=True, max_split_size=128 * MIB)


def test_a_later_value_wins() -> None:
    assert parse("max_split_size_mb:30,max_split_size_mb:40").max_split_size == 40 * MIB


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("expandable_segments:true", "expandable_segments='true'"),
        ("expandable_segments:1", "expandable_segments='1'"),
        ("max_split_size_mb:19", "max_split_size=19922944"),
        ("max_split_size_mb:abc", "max_split_size_mb='abc'"),
        ("max_split_size_mb:-30", "max_split_size_mb='-30'"),
        ("max_split_size_mb=30", "'max_split_size_mb=30'"),
        ("max_split_size_mb:", "'max_split_size_mb:'"),
        ("large_segment_size_mb:40,max_split_size_mb:30", "40 MiB"),
        ("large_segment_size_mb:10", "large_segment_size=10485760"),
        ("max_non_split_rounding_mb:5", "max_non_split_rounding=5242880"),
        ("garbage_collection_threshold:1.0", "garbage_collection_threshold='1.0'"),
        ("garbage_collection_threshold:0", "garbage_collection_threshold='0'"),
        ("garbage_collection_threshold:half", "garbage_collection_threshold='half'"),
        ("per_process_memory_fraction:1.5", "per_process_memory_fraction=1.5"),
        ("per_process_memory_fraction:0", "per_process_memory_fraction=0.0"),
        ("per_process_memory_fraction:nan", "per_process_memory_fraction=nan"),
        ("roundup_power2_divisions:3", "roundup_power2_divisions='3'"),
        ("roundup_power2_divisions:[300:1]", "roundup_power2_divisions='300'"),
        ("roundup_power2_divisions:[256:3]", "roundup_power2_divisions=3"),
        ("roundup_power2_divisions:[256:4", "'roundup_power2_divisions:[256:4'"),
        ("roundup_power2_divisions:[256]", "roundup_power2_divisions='256'"),
        ("roundup_power2_divisions:[]", "roundup_power2_divisions=''"),
        ("max_split:30", "'max_split': unknown setting"),
        ("backend:cudaMallocAsync", "backend='cudaMallocAsync'"),
        ("backend:jemalloc", "backend='jemalloc'"),
    ],
)
def test_refused_text_names_the_setting(text: str, named: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert named in str(caught.value)


def test_divisions_by_list() -> None:
    # 256 MiB is interval 8: it and all below get 4; 512 MiB gets 0; all above the last one named get 8.
    assert parse("roundup_power2_divisions:[256:4,512:0,>:8]").roundup_power2_divisions == (4,) * 9 + (0,) + (8,) * 6


DIVISIONS = [
    "roundup_power2_divisions:4",
    "roundup_power2_divisions:[64:8,256:4,1024:2,>:1]",
    "roundup_power2_divisions:[256:1,512:2,1024:4,>:8]",
    "roundup_power2_divisions:[>:8]",
    "roundup_power2_divisions:[1:2,>:4,8:16]",
    "roundup_power2_divisions:[65536:8]",
]


@pytest.mark.parametrize("text", DIVISIONS)
def test_divisions_agree_with_pytorch(text: str) -> None:
    torch = pytest.importorskip("torch")
    library = ctypes.CDLL(str(Path(torch.__path__[0]) / "lib" / "libc10.so"))
    lookup = library._ZN3c1016CachingAllocator26AcceleratorAllocatorConfig24roundup_power2_divisionsEm
    lookup.restype, lookup.argtypes = ctypes.c_size_t, [ctypes.c_size_t]
    torch._C._accelerator_setAllocatorSettings(text)
    try:
        assert parse(text).roundup_power2_divisions == tuple(lookup(1 << (20 + interval)) for interval in range(16))
    finally:
        torch._C._accelerator_setAllocatorSettings("")


SHARED_SETTINGS = [
    "max_split_size_mb:19",
    "max_split_size_mb:20",
    "max_non_split_rounding_mb:19",
    "large_segment_size_mb:10",
    "large_segment_size_mb:11",
    "large_segment_size_mb:40,max_split_size_mb:39",
    "max_split_size_mb:40,large_segment_size_mb:40",
    "expandable_segments:true",
    "expandable_segments:True",
    "roundup_power2_divisions:0",
    "roundup_power2_divisions:3",
    "roundup_power2_divisions:[300:1]",
    "garbage_collection_threshold:0",
    "garbage_collection_threshold:1.0",
    "expandable_segments:True,",
]


@pytest.mark.parametrize("text", SHARED_SETTINGS)
def test_accepts_what_pytorch_accepts(text: str) -> None:
    torch = pytest.importorskip("torch")

    def accepted(read: object) -> bool:
        try:
            read(text)  # type: ignore[operator]
        except ValueError:
            return False
        return True

    try:
        assert accepted(parse) == accepted(torch._C._accelerator_setAllocatorSettings)
    finally:
        torch._C._accelerator_setAllocatorSettings("")


def test_default_rounding_follows_the_large_segment() -> None:
    # A request of max_split_size or more may take a block with less than large_segment_size to spare: 80 - 45 < 40 MiB.
    allocator = CachingAllocator(parse("large_segment_size_mb:40,max_split_size_mb:40"))
    allocator.free(allocator.malloc(79 * MIB))
    allocator.malloc(45 * MIB)
    assert allocator.statistics.all.allocated_bytes == allocator.statistics.all.reserved_bytes == 80 * MIB


@pytest.mark.parametrize("field", ["garbage_collection_threshold:0.8", "throw_on_cudamalloc_oom:True"])
def test_a_setting_without_effect_warns(field: str) -> None:
    with pytest.warns(UserWarning, match=field.split(":")[0]):
        parse(field)


def test_memory_fraction_needs_a_capacity() -> None:
    with pytest.raises(InputError, match="per_process_memory_fraction"):
        CachingAllocator(AllocatorConfig(per_process_memory_fraction=0.5))


def test_environment_variables() -> None:
    assert AllocatorConfig.from_environment({}) == AllocatorConfig()
    assert AllocatorConfig.from_environment({"PYTORCH_ALLOC_CONF": "expandable_segments:True"}).expandable_segments
    both = {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:30", "PYTORCH_ALLOC_CONF": "max_split_size_mb:40"}
    with pytest.warns(UserWarning, match="the first is used"):
        assert AllocatorConfig.from_environment(both).max_split_size == 30 * MIB
    with pytest.raises(InputError, match="PYTORCH_NO_CUDA_MEMORY_CACHING"):
        AllocatorConfig.from_environment({"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})


@st.composite
def configs(draw: st.DrawFn) -> AllocatorConfig:
    large = draw(st.integers(11, 64)) * MIB
    return AllocatorConfig(
        expandable_segments=draw(st.booleans()),
        large_segment_size=large,
        max_split_size=draw(st.just(UNLIMITED) | st.integers(large // MIB, 4096).map(lambda size: size * MIB)),
        max_non_split_rounding=draw(st.none() | st.integers(large // MIB, 4096).map(lambda size: size * MIB)),
        roundup_power2_divisions=draw(st.tuples(*[st.sampled_from([0, 1, 2, 4, 8, 16])] * 16)),
        per_process_memory_fraction=draw(st.floats(0.001, 0.999)),
        garbage_collection_threshold=draw(st.just(0.0) | st.floats(0.001, 0.999)),
        throw_on_cudamalloc_oom=draw(st.booleans()),
    )


@given(configs())
def test_text_of_a_config_gives_the_config_back(config: AllocatorConfig) -> None:
    assert parse(config.to_environment_string()) == config


@given(st.text(alphabet="abmx_:,[]>0128. TrueFals", max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parse(text)
        except InputError as error:
            assert str(error)


def test_capacity_and_policy_are_checked() -> None:
    with pytest.raises(InputError, match="capacity_bytes=0"):
        CachingAllocator(capacity_bytes=0)
    with pytest.raises(InputError, match="deferred_free='later'"):
        CachingAllocator(capacity_bytes=GIB, deferred_free="later")  # type: ignore[arg-type]
