// SPDX-License-Identifier: Apache-2.0
/*
 * A virtio device's saved state: the transport's registers and each queue's
 * set-up and positions. Nothing is in flight while it is written (drain first).
 */
#include "dev/virtio/virtio_internal.h"

#include <errno.h>

static int vq_post_load(void *obj, uint32_t version, struct err *e)
{
    struct vq *vq = obj;
    struct virtio_dev *vd = vq->vd;
    const char *wrong = vq->enabled ? vq_check_setup(vq) : NULL;

    (void)version;
    if (wrong)
        return err_set(e, -EINVAL, "%s: saved queue %u: %s", vd->class->name,
                       vq->index, wrong);
    if (vq->size == 0 || vq->size > vq->size_max || (vq->size & (vq->size - 1)))
        return err_set(e, -EINVAL,
                       "%s: saved queue %u has %u entries, at most "
                       "%u are possible",
                       vd->class->name, vq->index, vq->size, vq->size_max);
    if (vq->vector != VIRTIO_NO_VECTOR && vq->vector >= vd->pci.msix_count)
        return err_set(e, -EINVAL,
                       "%s: saved queue %u uses MSI-X vector %u of "
                       "%u",
                       vd->class->name, vq->index, vq->vector,
                       vd->pci.msix_count);
    vq->in_flight = 0;
    return 0;
}

static const struct state_field vq_fields[] = {
    SF_U16(vq, size),      SF_U16(vq, vector),
    SF_BOOL(vq, enabled),  SF_U64(vq, desc),
    SF_U64(vq, driver),    SF_U64(vq, device),
    SF_U16(vq, avail_idx), SF_U16(vq, used_idx),
    SF_U16(vq, signalled), SF_END,
};

static const struct state_desc vq_state = {
    .name = "virtqueue",
    .version = 1,
    .min_version = 1,
    .fields = vq_fields,
    .post_load = vq_post_load,
};

static int post_load(void *obj, uint32_t version, struct err *e)
{
    struct virtio_dev *vd = obj;
    uint64_t foreign = vd->driver_features & ~vd->features;

    (void)version;
    if ((vd->status & VIRTIO_S_FEATURES_OK) && foreign)
        return err_set(e, -EINVAL,
                       "%s: the saved driver uses features 0x%llx, which this "
                       "device does not have",
                       vd->class->name, (unsigned long long)foreign);
    if ((vd->status & VIRTIO_S_DRIVER_OK) &&
        !(vd->status & VIRTIO_S_FEATURES_OK))
        return err_set(e, -EINVAL, "%s: saved status 0x%x cannot be",
                       vd->class->name, vd->status);
    if (vd->config_vector != VIRTIO_NO_VECTOR &&
        vd->config_vector >= vd->pci.msix_count)
        return err_set(e, -EINVAL, "%s: saved configuration vector %u of %u",
                       vd->class->name, vd->config_vector, vd->pci.msix_count);
    return 0;
}

static const struct state_field fields[] = {
    SF_U64(virtio_dev, driver_features),
    SF_U32(virtio_dev, feature_select),
    SF_U32(virtio_dev, driver_feature_select),
    SF_U8(virtio_dev, status),
    SF_U8(virtio_dev, isr),
    SF_U8(virtio_dev, generation),
    SF_U16(virtio_dev, config_vector),
    SF_U16(virtio_dev, queue_select),
    SF_STRUCT(virtio_dev, vq, VIRTIO_QUEUES_MAX, vq_state),
    SF_END,
};

const struct state_desc virtio_state = {
    .name = "virtio",
    .version = 1,
    .min_version = 1,
    .fields = fields,
    .post_load = post_load,
};
